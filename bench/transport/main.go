// Command transport measures what the way between a coordinator and its hosts
// costs: tiles a second, the round trip of one tile, and the throughput of
// large results. Beside each stands what a bare yamux stream, and a bare
// connection, do in the same run. Coordinator and hosts are processes of their
// own, on the loopback interface.
//
//	go run ./bench/transport
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"text/tabwriter"

	"github.com/gpurun/gpurun/bench/internal/pretend"
	"github.com/gpurun/gpurun/dist"
)

func main() {
	worker := flag.Bool("worker", false, "be a host; for this command's own use")
	rounds := flag.Int("rounds", 5, "how often to measure everything")
	tiles := flag.Int("tiles", 60000, "tiles of a job of small tiles")
	asks := flag.Int("asks", 3000, "round trips to take the median of")
	megabytes := flag.Int("mb", 256, "size of the large results together, in MiB")
	memory := flag.Int("memory", chunk>>10, "KiB, a multiple of 256 up to 16384, that the bare connections read large results into by turns; gpurun has 12288")
	only := flag.String("only", "", "measure only plain or key")
	profile := flag.String("cpuprofile", "", "write the coordinator's CPU profile to this file, the hosts' beside it")
	flag.Parse()
	if *memory <= 0 || *memory<<10%chunk != 0 || *memory<<10 > len(pretend.Noise) {
		fmt.Fprintln(os.Stderr, "transport: -memory is a multiple of 256 up to", len(pretend.Noise)>>10)
		os.Exit(2)
	}
	var err error
	if *worker {
		err = serve(os.Stdin, os.Stdout)
	} else {
		err = measureAll(*rounds, sizes{*tiles, *asks, *megabytes << 20}, *only, *profile, *memory<<10)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "transport:", err)
		os.Exit(1)
	}
}

// sizes is how much is measured at a time.
type sizes struct{ tiles, asks, bytes int }

// quantity is one row of the table: what was measured in each round.
type quantity struct {
	name, unit string
	lower      bool // less is better
	ours       func(*cluster, sizes) (float64, error)
	yamux, tcp func(*cluster, sizes) (float64, error)
	oursAll    []float64
	yamuxAll   []float64
	tcpAll     []float64
	ratios     []float64
	trust      string
}

func quantities(trust string) []*quantity {
	return []*quantity{
		{trust: trust, name: "small tiles, 2 hosts", unit: "k/s", ours: tilesPerSecond, yamux: messagesPerSecond},
		{trust: trust, name: "round trip, p50", unit: "µs", lower: true, ours: roundTrip, yamux: yamuxAnswers, tcp: rawAnswers},
		{trust: trust, name: "large results, 1 host", unit: "MB/s", ours: bulk, yamux: yamuxBulk, tcp: rawBulk},
	}
}

func measureAll(rounds int, n sizes, only, profile string, memory int) error {
	fmt.Printf("%s, %s/%s, %d CPUs, medians of %d rounds\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), rounds)
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var table []*quantity
	for _, trust := range []string{"plain", "key"} {
		if only != "" && only != trust {
			continue
		}
		key := ""
		if trust == "key" {
			key = dist.NewKey().Reveal()
		}
		c, err := start(2, key, profile, memory)
		if err != nil {
			return err
		}
		rows := quantities(trust)
		err = measure(c, rows, rounds, n)
		if closing := c.close(); err == nil {
			err = closing
		}
		if err != nil {
			return err
		}
		table = append(table, rows...)
	}
	return show(table)
}

// measure takes all measures by turns, so that a slow moment of the machine
// does not count against one of them alone.
func measure(c *cluster, rows []*quantity, rounds int, n sizes) error {
	for range rounds {
		for _, row := range rows {
			results := [3]float64{}
			for i, f := range []func(*cluster, sizes) (float64, error){row.ours, row.yamux, row.tcp} {
				if f == nil {
					continue
				}
				value, err := f(c, n)
				if err != nil {
					return fmt.Errorf("%s: %w", row.name, err)
				}
				results[i] = value
			}
			row.oursAll = append(row.oursAll, results[0])
			row.yamuxAll = append(row.yamuxAll, results[1])
			row.tcpAll = append(row.tcpAll, results[2])
			row.ratios = append(row.ratios, results[0]/results[1])
		}
	}
	return nil
}

func show(table []*quantity) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "over\tquantity\tunit\tgpurun\tyamux\tconnection\tgpurun ÷ yamux\t÷ connection\tbetter\t")
	for _, row := range table {
		better := "higher"
		if row.lower {
			better = "lower"
		}
		ours, bare, raw := median(row.oursAll), median(row.yamuxAll), median(row.tcpAll)
		connection, ratio := "–", "–"
		if raw > 0 {
			connection, ratio = fmt.Sprintf("%.1f", raw), fmt.Sprintf("%.2f", ours/raw)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%.1f\t%s\t%.2f\t%s\t%s\t\n",
			row.trust, row.name, row.unit, ours, bare, connection, median(row.ratios), ratio, better)
	}
	return w.Flush()
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

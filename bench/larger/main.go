// Larger measures products of matrices in files through memories that are too small
// for them: what is read and written beside what has to be, and the time beside that
// of the same product in memory.
//
//	go run ./bench/larger
//	POCL_DEVICES="pthread pthread" go run ./bench/larger -devices opencl
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/gpurun/gpurun"
)

func main() {
	var b bench
	flag.IntVar(&b.n, "n", 8192, "rows and columns of the matrices, of float32")
	flag.IntVar(&b.rounds, "rounds", 3, "runs of each, by turns; the median counts")
	folder := flag.String("folder", "", "where to put the files (default the system's folder for temporary ones)")
	devices := flag.String("devices", "cpu", "the devices, as gpurun matmul --device has them")
	mems := flag.String("mem", "16MiB,32MiB,64MiB,128MiB,256MiB,512MiB,1GiB", "the budgets")
	flag.Parse()
	b.devices = strings.Split(*devices, ",")
	for _, text := range strings.Split(*mems, ",") {
		m, err := humanize.ParseBytes(text)
		if err != nil {
			log.Fatal(err)
		}
		b.budgets = append(b.budgets, int64(m))
	}
	if err := b.run(*folder); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	n, rounds int
	devices   []string
	budgets   []int64

	a, b, c string
	sum     []byte // of the product
}

func (b *bench) run(folder string) error {
	folder, err := os.MkdirTemp(folder, "gpurun-larger-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b.a, b.b, b.c = filepath.Join(folder, "a.npy"), filepath.Join(folder, "b.npy"), filepath.Join(folder, "c.npy")
	for i, path := range []string{b.a, b.b} {
		if err := writeRandom(path, b.n, uint64(i)); err != nil {
			return err
		}
	}
	// The first has all the memory there is.
	budgets := append([]int64{0}, b.budgets...)
	times := make([][]float64, len(budgets))
	reports := make([]*gpurun.Report, len(budgets))
	for range b.rounds {
		for i, budget := range budgets {
			if reports[i], err = b.multiply(budget); err != nil {
				return err
			}
			times[i] = append(times[i], reports[i].Seconds)
		}
	}
	fmt.Printf("%d×%d by %d×%d, float32, %s; medians of %d rounds; the bits are the same\n", b.n, b.n, b.n, b.n, strings.Join(b.devices, ","), b.rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "budget\tpeak ÷ budget\tmoved\tmoved ÷ bound\ttiles\ttime, s\t÷ in memory\t\n")
	whole := median(times[0])
	for i, r := range reports {
		budget, share := "all", "–"
		if budgets[i] > 0 {
			budget = humanize.IBytes(uint64(budgets[i]))
			share = fmt.Sprintf("%.3f", float64(r.PeakBytes)/float64(r.BudgetBytes))
		}
		tiles := 0
		for _, d := range r.Devices {
			tiles += d.Tiles
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%d\t%.2f\t%.2f\t\n", budget, share, humanize.IBytes(uint64(r.BytesMoved)),
			float64(r.BytesMoved)/float64(r.BytesBound), tiles, median(times[i]), median(times[i])/whole)
	}
	return t.Flush()
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// multiply computes the product with a budget, or with all memory if it is 0.
func (b *bench) multiply(budget int64) (*gpurun.Report, error) {
	eng, err := gpurun.Open(context.Background(), &gpurun.Config{Devices: b.devices, Memory: budget})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	if err := eng.MatMulFiles(context.Background(), b.c, b.a, b.b); err != nil {
		return nil, err
	}
	f, err := os.Open(b.c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return nil, err
	}
	sum := hash.Sum(nil)
	if b.sum == nil {
		b.sum = sum
	} else if !slices.Equal(sum, b.sum) {
		return nil, fmt.Errorf("with a budget of %d bytes the product is another", budget)
	}
	return eng.Report(), nil
}

// writeRandom writes an n×n matrix of random numbers as a .npy file.
func writeRandom(path string, n int, seed uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	text := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }\n", n, n)
	if _, err := w.Write(append(append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), byte(len(text)>>8)), text...)); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for range n * n {
		if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(2*rng.Float64()-1)))); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync() // or the first product waits for it
}

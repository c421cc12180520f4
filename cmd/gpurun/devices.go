package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func devicesCommand() *cobra.Command {
	var (
		asJSON bool
		hosts  []string
		trust  trustFlags
	)
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List the devices of this machine, and of hosts",
		Long: `List the devices of this machine: the CPU, and what OpenCL drivers offer; and
those of machines that run 'gpurun worker'.

ID is what --device takes. F32 and F64 say whether results in that type are
exact, which means the same to the last bit as on every other exact device.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := gpurun.AllDevices()
			if err != nil {
				note(cmd, err)
			}
			if len(hosts) > 0 {
				config := &gpurun.Config{Devices: []string{"none"}, Hosts: hosts}
				trust.set(config)
				eng, err := gpurun.Open(cmd.Context(), config)
				if err != nil {
					return err
				}
				defer eng.Close()
				noteMissingHosts(cmd, eng)
				devices = append(devices, eng.Devices()...)
			}
			if asJSON {
				return printJSON(cmd, devices)
			}
			return printDevices(cmd.OutOrStdout(), devices)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.StringSliceVar(&hosts, "hosts", nil, "list the devices of these hosts too")
	trust.add(cmd)
	return cmd
}

// note says what went wrong without keeping the command from its work.
func note(cmd *cobra.Command, err error) {
	fmt.Fprintln(cmd.ErrOrStderr(), "gpurun: note: "+oneLine(err))
}

// noteMissingHosts says which hosts of eng are not there.
func noteMissingHosts(cmd *cobra.Command, eng *gpurun.Engine) {
	for _, err := range eng.MissingHosts() {
		note(cmd, err)
	}
}

func printDevices(w io.Writer, devices []gpurun.Device) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKIND\tUNITS\tMEMORY\tF32\tF64\tDRIVER\tNAME")
	for _, d := range devices {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			d.ID, d.Kind, strconv.Itoa(d.Units), humanize.IBytes(uint64(d.Memory)), d.Float32, d.Float64, d.Driver, d.Name)
	}
	return t.Flush()
}

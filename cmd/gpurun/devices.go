package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func devicesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List the devices of this machine",
		Long: `List the devices of this machine: the CPU, and what OpenCL drivers offer.

ID is what --device takes. F32 and F64 say whether results in that type are
exact, which means the same to the last bit as on every other exact device.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := gpurun.AllDevices()
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "gpurun: note: "+oneLine(err))
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(devices)
			}
			return printDevices(cmd.OutOrStdout(), devices)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
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

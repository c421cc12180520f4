package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func keygenCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key that hosts and coordinators share",
		Long: `Make a key that hosts and coordinators share.

Whoever has the key can compute on the hosts that have it. Copy the file to each
machine, readable by its user alone. Another key and a restart lock out whoever
had the old one. With your own certificates there is no need of a key: see --tls-cert
of the other commands.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), gpurun.NewKey())
				return err
			}
			return gpurun.WriteKeyFile(output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "the file to write, with mode 0600 (default stdout)")
	return cmd
}

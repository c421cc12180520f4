package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// trustFlags are the flags of every verb that has to do with other machines: by
// what these and this one know each other.
type trustFlags struct {
	key, tlsCert, tlsKey, tlsCA fileName
}

func (f *trustFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(&f.key, "key", "the key that the other machines have too, from 'gpurun keygen'")
	flags.Var(&f.tlsCert, "tls-cert", "instead of --key: the certificate of this machine, in PEM")
	flags.Var(&f.tlsKey, "tls-key", "the private key of --tls-cert, in PEM, which nobody else may read")
	flags.Var(&f.tlsCA, "tls-ca", "the authorities, in PEM, by one of which each machine's certificate is signed")
	for _, flag := range []string{"tls-cert", "tls-key", "tls-ca"} {
		if err := cmd.MarkFlagFilename(flag, "pem", "crt", "cer", "key"); err != nil {
			panic(err)
		}
	}
	// Before anything else, and also where no host is named, so that the library
	// has no use for the files.
	cmd.PreRunE = func(*cobra.Command, []string) error { return f.check() }
}

// check refuses files that make no sense together.
func (f *trustFlags) check() error {
	var missing []string
	for _, file := range []struct {
		flag string
		name fileName
	}{{"--tls-cert", f.tlsCert}, {"--tls-key", f.tlsKey}, {"--tls-ca", f.tlsCA}} {
		if file.name == "" {
			missing = append(missing, file.flag)
		}
	}
	switch {
	case len(missing) == 3:
		return nil
	case f.key != "":
		return usagef("--key and certificates (--tls-cert, --tls-key, --tls-ca) exclude each other: give all machines either the one or the others")
	case len(missing) > 0:
		return usagef("--tls-cert, --tls-key and --tls-ca only work together: give %s too", strings.Join(missing, " and "))
	}
	return nil
}

// set has config name the files.
func (f *trustFlags) set(config *gpurun.Config) {
	config.KeyFile = string(f.key)
	config.TLSCert, config.TLSKey, config.TLSCA = string(f.tlsCert), string(f.tlsKey), string(f.tlsCA)
}

// fileName is a flag of a file. An empty one is a mistake, such as a variable of
// the shell that is not set, and must not count as no flag: that would mean that
// no trust is wanted.
type fileName string

func (n *fileName) Set(s string) error {
	if s == "" {
		return errors.New("want the name of a file")
	}
	*n = fileName(s)
	return nil
}

func (n *fileName) String() string { return string(*n) }
func (n *fileName) Type() string   { return "file" }

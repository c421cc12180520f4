package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// logFormat is a flag of how a log is written; empty means not at all.
type logFormat string

func (f *logFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json")
	}
	*f = logFormat(s)
	return nil
}

func (f *logFormat) String() string { return string(*f) }
func (f *logFormat) Type() string   { return "text|json" }

// add adds the flag, which says of what.
func (f *logFormat) add(cmd *cobra.Command, usage string) {
	cmd.Flags().Var(f, "log", usage)
	fixed(cmd, "log", "text", "json")
}

// open returns the log, on w, or nil if there is none. A quiet one has warnings only.
func (f logFormat) open(w io.Writer, quiet bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if quiet {
		options.Level = slog.LevelWarn
	}
	switch f {
	case "text":
		return slog.New(slog.NewTextHandler(w, options))
	case "json":
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return nil
}

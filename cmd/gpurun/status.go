package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status DIR",
		Short: "Tell how far the job is whose results are kept in a folder",
		Long: `Tell how far the job is whose results are kept in a folder, with --state DIR: what job
it is, whether a process works on it now, and how much of it is done. Nothing is
changed there, and no result is read.`,
		Example: `  gpurun mandel --size 60000x40000 -o large.tif --state large.state
  gpurun status large.state        # elsewhere, or when that was interrupted`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%d folders: name the one that was given to --state", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := gpurun.ReadState(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, statusOf(state))
			}
			tellState(cmd, state, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// status is what the verb prints as JSON.
type status struct {
	Job     string    `json:"job"`
	State   string    `json:"state"` // running, stopped or finished
	Holder  string    `json:"holder,omitempty"`
	Done    float64   `json:"done"`
	Tiles   int       `json:"tiles"`
	Runs    int       `json:"runs"`
	Began   time.Time `json:"began"`
	Last    time.Time `json:"last"`
	RunDone float64   `json:"run_done"`
	RunTime float64   `json:"run_seconds"`
}

func statusOf(s *gpurun.State) status {
	out := status{
		Job: s.Job.Title, State: "stopped", Holder: s.Holder, Done: s.Done, Tiles: s.Tiles, Runs: s.Runs,
		Began: s.Began, Last: s.Last, RunDone: s.RunDone, RunTime: s.Last.Sub(s.RunBegan).Seconds(),
	}
	switch {
	case s.Holder != "":
		out.State = "running"
	case s.Finished:
		out.State = "finished"
	}
	return out
}

// tellState prints s as a person reads it.
func tellState(cmd *cobra.Command, s *gpurun.State, now time.Time) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(cmd.OutOrStdout(), "%-9s "+format+"\n", append([]any{what}, args...)...)
	}
	ago := func(t time.Time) string { return humanize.RelTime(t, now, "ago", "from now") }
	line("job", "%s", s.Job.Title)
	out := statusOf(s)
	switch out.State {
	case "running":
		line("state", "running: %s", s.Holder)
	case "finished":
		line("state", "finished: the result is where the command has put it")
	default:
		line("state", "stopped: the same command goes on with it")
	}
	line("done", "%.1f %%, in %s tiles", 100*s.Done, humanize.Comma(int64(s.Tiles)))
	line("begun", "%s, %s", s.Began.Local().Format(time.DateTime), ago(s.Began))
	line("last tile", "%s, %s", s.Last.Local().Format(time.DateTime), ago(s.Last))
	if s.Runs > 1 {
		line("runs", "%d, the last begun %s", s.Runs, ago(s.RunBegan))
	}
	if rate := out.RunDone / out.RunTime; out.State == "running" && out.RunTime > 1 && rate > 0 {
		left := time.Duration((1 - s.Done) / rate * float64(time.Second)).Round(time.Second)
		line("rate", "%.3g %% of the elements a minute: %v more, if the others take as long", 100*rate*60, left)
	}
}

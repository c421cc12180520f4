//go:build linux

// Soak looks for what grows: it runs jobs for hours on three workers of this machine,
// two of which are killed, terminated and stopped all the time, and samples the memory,
// descriptors, threads and goroutines of the coordinator and of the third worker. Every
// result is compared with that of this machine's CPU. It fails if one differs, if a job
// fails, if none is done any more, or if a process ends by itself or does not answer.
//
//	go run ./bench/soak -for 1h -o soak
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.Ltime)
	length := flag.Duration("for", time.Hour, "how long to run")
	folder := flag.String("o", "soak", "the folder for samples, plots and what the workers say")
	seed := flag.Uint64("seed", rand.Uint64(), "what jobs and churn are drawn from")
	pause := flag.Duration("pause", 10*time.Second, "the mean pause between two events of churn")
	warmUp := flag.Duration("warm-up", 0, "what is not looked at in the summary (default a tenth, at most 5m)")
	hosts := flag.String("coordinate", "", "be the coordinator of these hosts; the program starts itself so")
	key := flag.String("key", "", "the coordinator's key")
	flag.Parse()
	if *hosts != "" {
		if err := coordinate(strings.Split(*hosts, ","), *key, *seed); err != nil {
			log.Fatal("coordinator: ", err)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	s := soak{length: *length, folder: *folder, seed: *seed, pause: *pause, warmUp: cmp.Or(*warmUp, min(*length/10, 5*time.Minute))}
	if err := s.run(ctx); err != nil {
		log.Fatal(err)
	}
}

// soak is one run.
type soak struct {
	length, pause, warmUp time.Duration
	folder                string
	seed                  uint64
}

// subject says what is run: the commit, with a mark if the source differs, and Go.
func subject(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	commit := "an unknown commit"
	if out, err := cmd.Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("gpurun %s, %s %s/%s", commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// run runs the cluster and writes what came of it, also where that was cut short.
func (s *soak) run(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return err
	}
	title := subject(ctx)
	log.Print(title)
	log.Printf("seed %d, for %v, warm-up %v", s.seed, s.length, s.warmUp)
	c, err := startCluster(ctx, s.folder, s.seed)
	if err != nil {
		return err
	}
	defer c.stop()
	limited, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	churn := &churn{workers: c.workers[1:], pause: s.pause, random: rand.New(rand.NewPCG(s.seed, 1)), began: time.Now()}
	churned := make(chan error, 1)
	go func() {
		churned <- churn.run(limited)
		cancel()
	}()
	samples, sampling := c.sample(limited, churn, filepath.Join(s.folder, "samples.csv"))
	cancel()
	err = errors.Join(sampling, <-churned)
	if errors.Is(err, errStalled) {
		c.dump()
	}
	c.stop() // before the plots, which take a while
	if ctx.Err() != nil {
		log.Print("cut short: ", context.Cause(ctx))
	}
	events := churn.happened()
	if len(samples) == 0 {
		return cmp.Or(err, errors.New("too short for a sample"))
	}
	title = fmt.Sprintf("%s, seed %d, for %v", title, s.seed, s.length)
	return errors.Join(err, verdict(samples), s.write(title, samples, events))
}

// verdict returns an error if jobs were not what they should have been.
func verdict(samples []sample) error {
	switch last := samples[len(samples)-1]; {
	case last.Wrong+last.Failed > 0:
		return fmt.Errorf("%d jobs were wrong and %d failed", last.Wrong, last.Failed)
	case last.Jobs == 0:
		return errors.New("no job was done")
	}
	return nil
}

// write writes the summary, which it also prints, the events and the plots.
func (s *soak) write(title string, samples []sample, events []event) error {
	var summary strings.Builder
	summarize(&summary, title, samples, events, s.warmUp.Seconds())
	fmt.Print(summary.String())
	return errors.Join(
		os.WriteFile(filepath.Join(s.folder, "summary.txt"), []byte(summary.String()), 0o644),
		writeEvents(filepath.Join(s.folder, "churn.csv"), events),
		plotAll(s.folder, samples, events),
	)
}

//go:build linux

// Soak looks for what grows: it runs jobs for hours on three workers of this machine,
// two of which are killed, terminated and stopped all the time, and samples the memory,
// descriptors, threads and goroutines of the coordinator and of the third worker. Every
// result is compared with that of this machine's CPU.
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
	"os/signal"
	"path/filepath"
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

// run runs the cluster and writes what came of it, also where that was cut short.
func (s *soak) run(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.folder, 0o755); err != nil {
		return err
	}
	log.Printf("seed %d, for %v, warm-up %v", s.seed, s.length, s.warmUp)
	c, err := startCluster(s.folder, s.seed)
	if err != nil {
		return err
	}
	defer c.stop()
	ctx, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	churn := &churn{workers: c.workers[1:], pause: s.pause, random: rand.New(rand.NewPCG(s.seed, 1)), began: time.Now()}
	churned := make(chan error, 1)
	go func() {
		churned <- churn.run(ctx)
		cancel()
	}()
	samples, sampling := c.sample(ctx, churn, filepath.Join(s.folder, "samples.csv"))
	cancel()
	err = errors.Join(sampling, <-churned)
	events := churn.happened()
	if len(samples) == 0 {
		return cmp.Or(err, errors.New("too short for a sample"))
	}
	summarize(os.Stdout, samples, events, s.warmUp.Seconds())
	if last := samples[len(samples)-1]; last.Wrong+last.Failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d jobs were wrong and %d failed", last.Wrong, last.Failed))
	}
	return errors.Join(err, writeEvents(filepath.Join(s.folder, "churn.csv"), events), plotAll(s.folder, samples, events))
}

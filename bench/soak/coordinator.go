//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun"
)

// status is what the coordinator says of itself: a line of JSON a second.
type status struct {
	Jobs, Wrong, Failed int64
	Heap                uint64 // bytes in use
	Goroutines          int
}

// jobKinds is how many different images there are, and as many products.
const jobKinds = 24

// coordinate runs jobs on hosts, one after the other, until it is killed. All of them
// are computed on this machine's CPU first.
func coordinate(hosts []string, key string, seed uint64) error {
	ctx, random := context.Background(), rand.New(rand.NewPCG(seed, 0))
	jobs, err := drawJobs(ctx, random)
	if err != nil {
		return err
	}
	eng, err := gpurun.Open(ctx, &gpurun.Config{Devices: []string{"none"}, Hosts: hosts, KeyFile: key, Wait: time.Minute})
	if err != nil {
		return err
	}
	defer eng.Close()
	var done, wrong, failed atomic.Int64
	go func() {
		for to := json.NewEncoder(os.Stdout); ; time.Sleep(time.Second) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if to.Encode(status{done.Load(), wrong.Load(), failed.Load(), m.HeapInuse, runtime.NumGoroutine()}) != nil {
				os.Exit(1) // nobody listens any more
			}
		}
	}()
	for i := 0; ; i++ {
		j := jobs[2*random.IntN(jobKinds)+i%2]
		sum, err := j.compute(ctx, eng)
		switch {
		case err != nil:
			failed.Add(1)
			log.Printf("%s failed: %v", j.name, err)
			time.Sleep(time.Second)
		case sum != j.want:
			wrong.Add(1)
			log.Printf("%s is wrong, by %s", j.name, contributors(eng.Report()))
		default:
			done.Add(1)
		}
	}
}

// drawJobs draws images and products by turns, and computes each on the CPU.
func drawJobs(ctx context.Context, random *rand.Rand) (jobs []*job, err error) {
	eng, err := gpurun.Open(ctx, &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	elements := drawElements(random)
	for range jobKinds {
		jobs = append(jobs, drawImage(random), drawProduct(random, elements))
	}
	for _, j := range jobs {
		if j.want, err = j.compute(ctx, eng); err != nil {
			return nil, fmt.Errorf("%s on the CPU: %w", j.name, err)
		}
	}
	return jobs, nil
}

// contributors names those who computed tiles of a job.
func contributors(r *gpurun.Report) (hosts []string) {
	for _, d := range r.Devices {
		if d.Tiles > 0 {
			hosts = append(hosts, d.Host)
		}
	}
	return hosts
}

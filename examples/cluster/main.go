// Cluster computes a view on this machine and others, which run
// "gpurun worker --listen :9473 --key cluster.key":
//
//	gpurun keygen -o cluster.key               # once; then copy it to every machine
//	go run . cluster.key gpu1:9473 gpu2:9473   # here
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/gpurun/gpurun"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: cluster KEYFILE HOST…")
	}
	if err := compute(os.Stdout, os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

// compute prints what share of the view each device computed.
func compute(w io.Writer, keyFile string, hosts []string) error {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, &gpurun.Config{Hosts: hosts, KeyFile: keyFile})
	if err != nil {
		return err
	}
	defer eng.Close()
	for _, missing := range eng.MissingHosts() {
		fmt.Fprintln(w, "note:", missing)
	}
	if _, err := eng.Mandelbrot(ctx, gpurun.View{
		Center: complex(-0.7463, 0.1102), Span: 0.005,
		Width: 1200, Height: 800, MaxIter: 5000,
	}); err != nil {
		return err
	}
	for _, d := range eng.Report().Devices {
		fmt.Fprintf(w, "%s %s computed %.0f %%\n", d.Host, d.ID, 100*d.Share)
	}
	return nil
}

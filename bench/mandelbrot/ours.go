package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// openCL is the name of this module on an OpenCL device.
const openCL = "opencl"

// serve is the process of a contestant that is this module: on the CPU, or on the
// first OpenCL device.
func serve(name string, in io.Reader, out io.Writer) error {
	id := "cpu"
	if name == openCL {
		var err error
		if id, err = firstOpenCL(); err != nil {
			return err
		}
	}
	devices, err := device.Open([]string{id}, 0)
	if err != nil {
		return err
	}
	info := devices[0].Info()
	fmt.Fprintf(out, "%s, %s, units: %d\n", info.Name, info.Driver, info.Units)
	defer devices[0].Close()
	o := ours{}
	for _, t := range types {
		r := &ready{device: devices[0]}
		defer r.close()
		o[t] = r
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		seconds, sum, err := o.answer(lines.Text())
		if err != nil {
			fmt.Fprintf(out, "%s%v\n", failure, err)
			continue
		}
		fmt.Fprintln(out, seconds, sum)
	}
	return nil
}

// firstOpenCL returns the id of the first OpenCL device.
func firstOpenCL() (string, error) {
	infos, err := device.List()
	for _, info := range infos {
		if info.Backend == "opencl" {
			return info.ID, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("there is no OpenCL device")
	}
	return "", err
}

// ours has the pictures that were last asked for: those of both types come by
// turns.
type ours map[kernels.DType]*ready

// ready is a device that is ready for a picture.
type ready struct {
	device  device.Device
	picture picture
	job     *kernels.Mandelbrot
	runner  kernels.Runner
	result  *kernels.Result
}

func (r *ready) close() {
	if r.runner != nil {
		r.runner.Close()
	}
}

// answer answers a request.
func (o ours) answer(request string) (seconds float64, sum uint64, err error) {
	words := strings.Fields(request)
	last := len(words) - 2
	if last < 0 {
		return 0, 0, fmt.Errorf("request %q", request)
	}
	var times int
	if _, err := fmt.Sscan(words[last], &times); err != nil {
		return 0, 0, err
	}
	p, err := parsePicture(strings.Join(words[:last], " "))
	if err != nil {
		return 0, 0, err
	}
	r := o[p.t]
	if err := r.begin(p); err != nil {
		return 0, 0, err
	}
	ctx := context.Background()
	start := time.Now()
	for range times {
		if err := r.runner.Run(ctx, r.job.Bounds(), r.result); err != nil {
			return 0, 0, err
		}
	}
	seconds = time.Since(start).Seconds() / float64(times)
	for _, n := range kernels.Elements[uint32](r.result.Planes[0]) {
		sum += uint64(n)
	}
	if path := words[last+1]; path != "-" {
		err = os.WriteFile(path, append(append([]byte{}, r.result.Planes[0]...), r.result.Planes[1]...), 0o600)
	}
	return seconds, sum, err
}

// begin makes the device ready for p, if it is not.
func (r *ready) begin(p picture) error {
	if p == r.picture {
		return nil
	}
	if r.runner != nil {
		r.runner.Close()
		r.runner = nil
	}
	r.job = p.job()
	r.result = kernels.NewResult(r.job, r.job.Bounds())
	runner, err := r.device.Begin(context.Background(), r.job)
	if err != nil {
		return err
	}
	r.runner, r.picture = runner, p
	runtime.GC()
	return nil
}

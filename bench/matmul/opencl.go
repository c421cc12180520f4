package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/kernels"
)

// usesOpenCL reports whether that contestant computes on an OpenCL device.
func usesOpenCL(name string) bool {
	return strings.HasPrefix(name, "opencl") || strings.HasPrefix(name, "clblast")
}

// onDevice is this module on an OpenCL device.
type onDevice struct {
	device device.Device
	copies bool // operands go there, and the result comes back, each time
}

func openDevice(copies bool) (multiplier, error) {
	id, err := firstDevice()
	if err != nil {
		return nil, err
	}
	devices, err := device.Open([]string{id}, 0)
	if err != nil {
		return nil, err
	}
	return onDevice{devices[0], copies}, nil
}

// firstDevice returns the id of the first OpenCL device.
func firstDevice() (string, error) {
	infos, err := device.List()
	for _, info := range infos {
		if info.Backend == "opencl" {
			return info.ID, nil
		}
	}
	return "", errors.Join(errors.New("there is no OpenCL device"), err)
}

func (d onDevice) about() string {
	info := d.device.Info()
	if d.copies {
		return fmt.Sprintf("%s, %s, %d units; allocation, copies, packing and the product are in the time", info.ID, info.Name, info.Units)
	}
	return fmt.Sprintf("%s, %s, %d units; panels of A and B are packed on the device already; copying C back is in the time",
		info.ID, info.Name, info.Units)
}

func (d onDevice) product32(s shape, a, b, c []float32) (product, error) {
	return productOn(d, s, a, b, c)
}

func (d onDevice) product64(s shape, a, b, c []float64) (product, error) {
	return productOn(d, s, a, b, c)
}

func productOn[T float32 | float64](d onDevice, s shape, a, b, c []T) (product, error) {
	job := &kernels.MatMul[T]{M: s.m, N: s.n, K: s.k, Alpha: 1, A: a, LDA: s.k, B: b, LDB: s.n, C: c, LDC: s.n}
	result := &kernels.Result{Planes: [][]byte{kernels.Bytes(c)}}
	p, _ := onHost(nil) // which has nothing to fetch or close
	ctx := context.Background()
	if d.copies {
		p.times = func(n int) error {
			for range n {
				if err := once(ctx, d.device, job, result); err != nil {
					return err
				}
			}
			return nil
		}
		return p, nil
	}
	// What a runner has packed stays on the device.
	runner, err := d.device.Begin(ctx, job)
	if err != nil {
		return product{}, err
	}
	p.close = func() { runner.Close() }
	for range 2 {
		if err := runner.Run(ctx, job.Bounds(), result); err != nil {
			p.close()
			return product{}, err
		}
	}
	if result.BytesIn > 0 {
		fmt.Fprintf(os.Stderr, "opencl: %v %v does not fit the device's memory: its copies are in the time\n", job.DType(), s)
	}
	p.times = func(n int) error {
		for range n {
			if err := runner.Run(ctx, job.Bounds(), result); err != nil {
				return err
			}
		}
		return nil
	}
	return p, nil
}

// once computes a job from beginning to end.
func once(ctx context.Context, d device.Device, job kernels.Job, result *kernels.Result) error {
	runner, err := d.Begin(ctx, job)
	if err != nil {
		return err
	}
	err = runner.Run(ctx, job.Bounds(), result)
	if e := runner.Close(); err == nil {
		err = e
	}
	return err
}

package gpurun

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
)

// LyingWorker is a worker that is built to lie, as a process of its own: its CPU computes as
// others do, and then flips a bit of an element in each Every-th tile. It is what
// LyingVariable holds, as JSON, in the environment of this test program.
type LyingWorker struct {
	Listen, KeyFile string
	Every           int
	Seed            uint64
}

// LyingVariable makes this test program a LyingWorker.
const LyingVariable = "GPURUN_TEST_LIAR"

// ServeLies serves coordinators as the LyingWorker that settings describes, until the process
// is killed.
func ServeLies(settings string) error {
	var w LyingWorker
	if err := json.Unmarshal([]byte(settings), &w); err != nil {
		return err
	}
	trust, err := (&Config{KeyFile: w.KeyFile}).trust()
	if err != nil {
		return err
	}
	cpu, err := device.OpenCPU(0)
	if err != nil {
		return err
	}
	d := &liar{Device: cpu, id: "cpu", every: w.Every, rng: rand.New(rand.NewPCG(w.Seed, 0))}
	info := cpu.Info()
	host := dist.NewHost("liar", []dist.Device{d}, []dist.DeviceInfo{{
		ID: d.id, Kind: string(info.Kind), Name: info.Name, F32: string(info.Float32), F64: string(info.Float64),
	}}, nil)
	l, err := listen(context.Background(), w.Listen, trust)
	if err != nil {
		return err
	}
	fmt.Println("listening at", l.Addr())
	return host.Serve(context.Background(), l, trust)
}

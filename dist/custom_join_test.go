package dist

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

var errChoosy = errors.New("it will not have this job")

// choosyDevice declines each job.
type choosyDevice struct{ fakeDevice }

func (*choosyDevice) declines(kernels.Job) (bool, error) { return true, errChoosy }

// TestDeviceThatDeclinesJoins has a job wait for a device, and only such come that decline it.
func TestDeviceThatDeclinesJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		join := make(chan Device)
		go func() {
			for range 3 {
				time.Sleep(40 * time.Second)
				join <- &choosyDevice{fakeDevice{id: "choosy", slots: 1}}
			}
		}()
		start := time.Now()
		_, err := runFakes(t, t.Context(), fakeJob{10, 10}, Options{Join: join, Wait: time.Minute})
		if took := time.Since(start); !errors.Is(err, ErrNoDevice) || !errors.Is(err, errChoosy) || took != 3*time.Minute {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

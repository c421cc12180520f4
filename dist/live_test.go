package dist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestLive looks at a job while it runs, 40 tiles of a quarter of a second, with one
// device in each state, and when it is done.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		after := func(d time.Duration, err error) func(context.Context, kernels.Tile, int) error {
			return func(ctx context.Context, _ kernels.Tile, _ int) error {
				if err := pause(ctx, d); err != nil {
					return err
				}
				return err
			}
		}
		var log lockedLog
		live := &Live{}
		if r := live.Report(); r != nil {
			t.Errorf("before the run there is a report: %+v", r)
		}
		opts := Options{Tiles: 40, Live: live, Log: slog.New(slog.NewTextHandler(&log, nil))}
		var last *Report
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			var err error
			last, err = runFakes(t, t.Context(), fakeJob{1000, 100}, opts,
				&fakeDevice{id: "works", rate: 10000},
				&fakeDevice{id: "starts", rate: 10000, begins: func(ctx context.Context) error { return pause(ctx, 5*time.Second) }},
				&fakeDevice{id: "fails", fault: after(100*time.Millisecond, broken)},
				&fakeDevice{id: "goes", fault: after(200*time.Millisecond, fmt.Errorf("%w: %w: by itself", ErrLost, errHostGone))})
			if err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		r := live.Report()
		if math.Abs(r.Done-0.1) > 0.005 || len(r.Devices) != 4 {
			t.Errorf("%g of the job is done, by %d devices; want 4 tiles of 40, by 4", r.Done, len(r.Devices))
		}
		type row struct {
			state                     State
			tiles, inFlight, failures int
			lastError                 string
			at                        time.Duration
		}
		for i, want := range []row{
			{StateWorking, 4, 1, 0, "", 0},
			{StateStarting, 0, 0, 0, "", 0},
			{StateSetAside, 0, 0, 3, "broken", 300 * time.Millisecond},
			{StateGone, 0, 0, 1, "by itself", 200 * time.Millisecond},
		} {
			d := r.Devices[i]
			got := row{d.State, d.Tiles, d.InFlight, d.Failures, want.lastError, d.LastErrorAt}
			says := ""
			if d.LastError != nil {
				says = d.LastError.Error()
			}
			if got != want || !strings.HasSuffix(says, want.lastError) || want.lastError == "" && says != "" {
				t.Errorf("%s: %+v, %q, want %+v", d.ID, got, says, want)
			}
		}
		<-ended
		r = live.Report()
		if r.Done != 1 || last.Done != 1 || r.Devices[0].State != StateIdle || r.Devices[0].InFlight != 0 || r.Devices[0].Tiles != last.Devices[0].Tiles {
			t.Errorf("when it is done: %g, %g, %+v", r.Done, last.Done, r.Devices[0])
		}
		for _, line := range []string{
			`level=WARN msg="tile failed" device=fails tile=`, `err=broken`, `level=WARN msg="device set aside" device=fails`,
			`msg="tile lost" device=goes`, `msg="device gone" device=goes`,
		} {
			if !strings.Contains(log.String(), line) {
				t.Errorf("the log lacks %s:\n%s", line, log.String())
			}
		}
	})
}

// TestLiveOfConvicted has a device lie from its third tile on: what it did counts no
// more, and the part that is done shrinks.
func TestLiveOfConvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := &Live{}
		n := 0
		opts := Options{Tiles: 4, Live: live, Verify: func(context.Context, kernels.Tile, *kernels.Result) error {
			if n++; n == 3 {
				return ErrWrong
			}
			return nil
		}}
		_, err := Run(t.Context(), fakeJob{100, 100}, []Device{&fakeDevice{id: "a", rate: 10000}}, newCheckSink(fakeJob{100, 100}), opts)
		if !errors.Is(err, ErrNoDevice) {
			t.Errorf("the run ended with %v", err)
		}
		r := live.Report()
		if d := r.Devices[0]; r.Done != 0 || d.State != StateSetAside || d.Failures != 1 || !errors.Is(d.LastError, ErrWrong) {
			t.Errorf("%g is done, by %+v", r.Done, d)
		}
	})
}

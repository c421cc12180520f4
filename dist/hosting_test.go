package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gpurun/gpurun/kernels"
)

// TestAnswersPileUp has peers that ask for what is answered at once and read no
// answer. The host does not keep answers without end: it ends the session.
func TestAnswersPileUp(t *testing.T) {
	lease := func(id uint64) []byte { return mustFrame(typeLease, leaseMessage{Lease: id, Job: 1, W: 1, H: 1}) }
	job := wideJob(1, 1)
	spec, err := encodeJob(job)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		device int
		n      uint64 // more than of which a window has the answers
		ask    func(id uint64) []byte
		says   string
	}{
		"failed": {0, 50_000, lease, fmt.Sprintf("beside %d", maxLeases)},
		"cancelled": {1, 50_000, func(id uint64) []byte {
			return append(lease(id), mustFrame(typeCancel, cancelMessage{Lease: id})...)
		}, fmt.Sprintf("beside %d", maxLeases)},
		"ended": {2, 4000, func(id uint64) []byte {
			begin := mustFrame(typeBegin, beginMessage{Job: id + 1, Device: 2, Kernel: job.Kernel(), Spec: spec})
			return append(begin, mustFrame(typeEnd, endMessage{Job: id + 1})...)
		}, fmt.Sprintf("with %d to begin", maxBegins)},
	} {
		t.Run(name, func(t *testing.T) {
			fails := func(context.Context) error { return errors.New("at once") }
			h := startHostOf(t, nil, &mandelDevice{id: "d", fault: fails}, &readyNever{}, wordy{&mandelDevice{}})
			p := connectPeer(t, h, nil)
			p.begin(t, job, test.device)
			var all []byte
			for id := range test.n {
				all = append(all, test.ask(id+1)...)
			}
			_ = writePieces(p.control, all) // the session may end before
			select {
			case <-p.mux.CloseChan():
			case <-time.After(time.Minute):
				t.Error("the session goes on")
			}
			p.leave()
			if !within(t, time.Minute, "the log says why", func() bool { return strings.Contains(h.logged(), test.says) }) {
				t.Log(h.logged())
			}
		})
	}
}

// TestLeasesMakeRoom has a peer that reads lease more, over time, than a host
// takes at a time.
func TestLeasesMakeRoom(t *testing.T) {
	h := startHost(t, nil, &mandelDevice{id: "d", fault: func(context.Context) error { return errors.New("at once") }})
	p := connectPeer(t, h, nil)
	p.begin(t, wideJob(1, 1), 0)
	if f, err := readFrame(p.control); err != nil || f.typ != typeBegan {
		t.Fatalf("message %d, %v", f.typ, err)
	}
	const n = 512
	for id := uint64(0); id < 2*maxLeases; {
		var ask []byte
		for range n {
			id++
			ask = append(ask, mustFrame(typeLease, leaseMessage{Lease: id, Job: 1, W: 1, H: 1})...)
		}
		if err := writePieces(p.control, ask); err != nil {
			t.Fatal(err)
		}
		for answered := 0; answered < n; {
			f, err := readFrame(p.control)
			if err != nil {
				t.Fatalf("at lease %d: %v", id, err)
			}
			if f.typ == typeFailed {
				answered++
			}
		}
	}
}

// longError is what a compiler may say, with a byte in it that is no text.
var longError = sync.OnceValue(func() error {
	var b strings.Builder
	b.WriteString("the first line\nand what is no text: \xff\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "kernel.cl:%d:1: error: no such thing\n", i)
	}
	b.WriteString("the last line")
	return errors.New(b.String())
})

// wordy is a device that begins no job, and says much about it.
type wordy struct{ *mandelDevice }

func (wordy) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return nil, longError() }

// TestLongErrors has a device fail with more text than a message has room for. It
// is the device's error that the coordinator sees, and the session goes on.
func TestLongErrors(t *testing.T) {
	h := startHostOf(t, nil, &mandelDevice{id: "d", fault: func(context.Context) error { return longError() }}, wordy{&mandelDevice{id: "w"}})
	r := h.dial(t, nil)
	job := remoteJob()
	_, beginErr := r.Devices()[1].Begin(t.Context(), job)
	runner, err := r.Devices()[0].Begin(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	for _, err := range []error{beginErr, runner.Run(t.Context(), job.Bounds(), kernels.NewResult(job, job.Bounds()))} {
		if err == nil || errors.Is(err, ErrLost) || r.Err() != nil {
			t.Fatalf("the error is %v; the session: %v", err, r.Err())
		}
		for _, part := range []string{"the first line", "bytes are left out", "the last line"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in the error:\n%v", part, err)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", longestError)} {
		if got := errorText(errors.New(text)); got != text {
			t.Errorf("%d bytes became %d", len(text), len(got))
		}
	}
	for _, text := range []string{strings.Repeat("x", longestError+1), strings.Repeat("€", 1<<20), strings.Repeat("x\xff", 1<<16), longError().Error()} {
		if got := errorText(errors.New(text)); len(got) > maxMessage/4 || !utf8.ValidString(got) || !strings.Contains(got, "left out") {
			t.Errorf("%d bytes became %d: %.50q", len(text), len(got), got)
		}
	}
}

// pacedDevice computes as run says.
type pacedDevice struct {
	mandelDevice
	slots int
	run   func(ctx context.Context, t kernels.Tile, progress func()) error
}

func (d *pacedDevice) Slots() int { return d.slots }

func (d *pacedDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) {
	return pacedRunner{d}, nil
}

type pacedRunner struct{ *pacedDevice }

func (pacedRunner) Close() error { return nil }

func (r pacedRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	return r.run(ctx, t, out.Progress)
}

// TestWaitingLeasesMove has a device of two slots come on with one tile, hang on
// another, and have two more wait. It is said of those that wait that they come on
// as long as the device does, and not of the one that hangs.
func TestWaitingLeasesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &pacedDevice{slots: 2, run: func(ctx context.Context, tile kernels.Tile, progress func()) error {
			if tile.X != 1 {
				return hang(ctx)
			}
			for range 10 {
				if err := pause(ctx, heartbeat/4); err != nil {
					return err
				}
				progress()
			}
			return nil
		}}
		ends := sessionsOnPipes(t, 1<<30)
		hostOn(t, ends[1], d)
		p := &peer{session: ends[0]}
		p.begin(t, remoteJob(), 0)
		for id := 1; id <= 4; id++ {
			_, _ = p.control.Write(mustFrame(typeLease, leaseMessage{Lease: uint64(id), Job: 1, X: id, W: 1, H: 1}))
			time.Sleep(time.Millisecond) // they take their turns in this order
		}
		var told [][]uint64
		p.loops.Go(func() {
			for {
				f, err := readFrame(p.control)
				if err == nil {
					_, err = io.CopyN(io.Discard, p.control, f.bulk)
				}
				if err != nil {
					return
				}
				var m progressMessage
				if f.typ == typeProgress && f.decode(&m) == nil {
					slices.Sort(m.Leases)
					told = append(told, m.Leases)
				}
			}
		})
		time.Sleep(3 * silence)
		p.leave()
		// After the second time lease 1 is done, and 3 hangs in its place.
		if want := [][]uint64{{1, 3, 4}, {1, 3, 4}, {4}}; !slices.EqualFunc(told, want, slices.Equal) {
			t.Errorf("it was told of %v, want %v", told, want)
		}
	})
}

//go:build linux

package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// passage is what came out of a wire, and when.
type passage struct {
	mu      sync.Mutex
	numbers []int
	at      []int64
}

// pass sends so many full frames into a wire at once, and waits for those that
// do not get lost.
func pass(t *testing.T, line Line, count int) (began int64, p *passage) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p = &passage{}
	l := &Lab{t: t}
	w, err := l.newWire(func(f *frame) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.numbers = append(p.numbers, int(binary.NativeEndian.Uint32(f.data[:])))
		p.at = append(p.at, monotonic())
		frames.Put(f)
	}, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		t.Fatal(err)
	}
	w.change(func(w *wire) { w.line = line })
	began = monotonic()
	for i := range count {
		f := frames.Get().(*frame)
		f.size = len(f.data)
		binary.NativeEndian.PutUint32(f.data[:], uint32(i))
		w.send(f)
	}
	for left := true; left; time.Sleep(poll) {
		w.change(func(w *wire) { left = len(w.queue) > 0 })
	}
	w.close()
	l.serving.Wait()
	for i := 1; i < len(p.numbers); i++ {
		if p.numbers[i] <= p.numbers[i-1] {
			t.Errorf("frame %d came after frame %d", p.numbers[i], p.numbers[i-1])
		}
	}
	return began, p
}

func TestWireLoss(t *testing.T) {
	const count = 10000
	_, p := pass(t, Line{Loss: 0.1}, count)
	// The standard deviation is 30.
	if lost := count - len(p.numbers); lost < 800 || lost > 1200 {
		t.Errorf("of %d frames %d were lost, want a tenth", count, lost)
	}
}

func TestWireDelay(t *testing.T) {
	const count = 1000
	delay, jitter := 3*time.Millisecond, 2*time.Millisecond
	began, p := pass(t, Line{Delay: delay, Jitter: jitter}, count)
	if len(p.numbers) != count {
		t.Fatalf("%d of %d frames came out", len(p.numbers), count)
	}
	if first := time.Duration(p.at[0] - began); first < delay {
		t.Errorf("the first frame came after %v, want at least %v", first, delay)
	}
}

// TestWireRate sends more than a line takes, which carries as much as it can and
// keeps as much as it may.
func TestWireRate(t *testing.T) {
	const count, rate = 5000, 4 << 20
	began, p := pass(t, Line{Rate: rate}, count)
	size := len(frame{}.data)
	seconds := time.Duration(p.at[len(p.at)-1] - began).Seconds()
	if fits := int(seconds * rate / float64(size)); len(p.numbers) > fits+1 {
		t.Errorf("%d frames came out in %.3f s, in which %d can", len(p.numbers), seconds, fits)
	}
	if least := int(queueTime.Seconds() * rate / float64(size)); len(p.numbers) < least || len(p.numbers) == count {
		t.Errorf("%d of %d frames came out, want at least the %d that fit into the queue, and not all", len(p.numbers), count, least)
	}
}

// TestWireUnplugged has nothing come out of a wire that is unplugged, neither of
// what was under way nor of what comes later.
func TestWireUnplugged(t *testing.T) {
	l := &Lab{t: t}
	var mu sync.Mutex
	came := 0
	w, err := l.newWire(func(f *frame) {
		mu.Lock()
		defer mu.Unlock()
		came++
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.serving.Wait()
	defer w.close()
	w.change(func(w *wire) { w.line.Delay = 200 * time.Millisecond })
	w.send(new(frame))
	w.change(func(w *wire) { w.unplugged = true })
	w.send(new(frame))
	for left := true; left; time.Sleep(poll) {
		w.change(func(w *wire) { left = len(w.queue) > 0 })
	}
	w.change(func(w *wire) { w.unplugged, w.line = false, Line{} })
	w.send(new(frame))
	mu.Lock()
	defer mu.Unlock()
	if came != 1 {
		t.Errorf("%d frames came out, want the one that was sent when the wire was plugged in again", came)
	}
}

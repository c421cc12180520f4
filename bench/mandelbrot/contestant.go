package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// contender is what can take part: gpurun, or one of the others.
type contender struct {
	name    string
	command []string // to which the number of threads is appended
	limits  []string // environment variables that are set to the number of threads
	exact   bool     // it computes the same bits
	part    float64  // of the steps that a picture may take
	several bool     // it makes no sense with one thread
}

// contestant is a contender with one number of threads, as a process.
//
// A request is a line: a picture, how often to compute it, and the file to which
// its counts and then its magnitudes are to be written, or "-". The answer is a
// line too: the seconds that a picture took, and the sum of its counts, or "! "
// and what is wrong. The first line of all is about the contestant.
type contestant struct {
	contender
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader

	pixels, differ int // of the pixels that were compared, those that are not gpurun's
}

// failure is how an answer begins that is the message of an error.
const failure = "! "

// start starts the contenders that make sense with so many threads. One that
// cannot be started is left out, with a line that says so. Those that it has
// started are to be stopped, also after an error.
func start(all []contender, threads int) ([]*contestant, error) {
	var out []*contestant
	fmt.Println()
	for i, one := range all {
		if one.several && threads == 1 {
			continue
		}
		c := &contestant{contender: one}
		about, err := c.start(threads)
		switch {
		case err != nil && i == 0:
			return out, fmt.Errorf("%s: %w", c.name, err)
		case err != nil:
			fmt.Printf("%s takes no part: %v\n", c.name, err)
			continue
		}
		fmt.Printf("%s: %s", c.name, about)
		out = append(out, c)
	}
	return out, nil
}

// start starts the process and returns what it says about itself.
func (c *contestant) start(threads int) (string, error) {
	words := append(append([]string{}, c.command...), strconv.Itoa(threads))
	c.process = exec.Command(words[0], words[1:]...)
	// Threads that wait should not take the time of the next contestant.
	c.process.Env = append(os.Environ(), "OMP_WAIT_POLICY=passive", "OPENBLAS_NUM_THREADS=1")
	for _, name := range c.limits {
		c.process.Env = append(c.process.Env, fmt.Sprintf("%s=%d", name, threads))
	}
	var err error
	if c.in, err = c.process.StdinPipe(); err != nil {
		return "", err
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		return "", err
	}
	c.out = bufio.NewReader(out)
	said := new(strings.Builder)
	c.process.Stderr = said
	if err := c.process.Start(); err != nil {
		return "", err
	}
	about, err := c.out.ReadString('\n')
	if err != nil {
		c.stop()
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return "", errors.New(lines[len(lines)-1])
	}
	return about, nil
}

func (c *contestant) stop() {
	c.in.Close()
	c.process.Wait()
}

// ask has the picture computed so many times, and returns the seconds that one
// took and the sum of the counts.
func (c *contestant) ask(p picture, times int, path string) (seconds float64, sum uint64, err error) {
	fmt.Fprintln(c.in, p, times, path)
	line, err := c.out.ReadString('\n')
	if message, failed := strings.CutPrefix(line, failure); failed {
		err = errors.New(strings.TrimSpace(message))
	} else if err == nil {
		_, err = fmt.Sscan(line, &seconds, &sum)
	}
	if err != nil {
		err = fmt.Errorf("%s: %v: %w", c.name, p, err)
	}
	return seconds, sum, err
}

// pixels is what came out of a picture.
type pixels struct {
	counts []uint32
	mags   []uint32 // the bits of float32
	sum    uint64   // of the counts
}

// compute has the picture computed, and fetches it. The first time it also makes
// the contestant ready for it.
func (c *contestant) compute(p picture, folder string) (pixels, error) {
	path := filepath.Join(folder, "pixels")
	_, sum, err := c.ask(p, 1, path)
	if err != nil {
		return pixels{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return pixels{}, err
	}
	n := p.width * p.height
	if len(data) != 8*n {
		return pixels{}, fmt.Errorf("%s: %v: %d bytes of pixels", c.name, p, len(data))
	}
	words := make([]uint32, 2*n)
	copy(kernels.Bytes(words), data)
	return pixels{words[:n], words[n:], sum}, nil
}

// compare counts how many pixels are not as they ought to be: the bits, or the
// counts alone for a contestant that does not compute the same bits.
func (c *contestant) compare(got, want pixels) {
	c.pixels += len(want.counts)
	for i := range want.counts {
		if got.counts[i] != want.counts[i] || c.exact && got.mags[i] != want.mags[i] {
			c.differ++
		}
	}
}

// verdict says how many pixels differ, or is an error where they may not.
func (c *contestant) verdict() (string, error) {
	if c.exact {
		if c.differ > 0 {
			return "", fmt.Errorf("%s is WRONG in %d of %d pixels", c.name, c.differ, c.pixels)
		}
		return c.name + " 0", nil
	}
	// Long orbits are chaotic: where they round otherwise they end otherwise, in
	// some views in an eighth of the pixels.
	const most = 0.25
	part := float64(c.differ) / float64(c.pixels)
	if part > most {
		return "", fmt.Errorf("%s is WRONG: its counts differ in %.1f %% of the pixels", c.name, 100*part)
	}
	return fmt.Sprintf("%s %.1f %% of the counts", c.name, 100*part), nil
}

// rate returns the steps a second of a picture that takes so many, whose counts
// have that sum. It is repeated for a slice.
func (c *contestant) rate(p picture, steps float64, sum uint64, times int) (float64, error) {
	seconds, got, err := c.ask(p, times, "-")
	if err == nil && got != sum {
		err = fmt.Errorf("%s: %v: not what came out before", c.name, p)
	}
	return steps / seconds, err
}

// repeats returns how often the picture has to be computed to fill a slice.
func (c *contestant) repeats(p picture, slice time.Duration) (int, error) {
	for n := 1; ; {
		seconds, _, err := c.ask(p, n, "-")
		if err != nil {
			return 0, err
		}
		total := time.Duration(seconds * float64(n) * 1e9)
		if total > slice/4 {
			return max(1, int(float64(n)*slice.Seconds()/total.Seconds()+0.999)), nil
		}
		n *= 4
	}
}

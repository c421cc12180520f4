package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// terminal is a pseudo-terminal, and what was written to it.
type terminal struct {
	*os.File // what the command has for a terminal
	mu       sync.Mutex
	text     strings.Builder
	read     chan struct{} // closed when all has been
}

func openTerminal(t *testing.T, columns, lines uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testenv.Missing(t, "pty", "there are no pseudo-terminals here: "+err.Error())
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{File: slave, read: make(chan struct{})}
	go func() {
		defer close(term.read)
		memory := make([]byte, 4096)
		for {
			n, err := master.Read(memory)
			term.mu.Lock()
			term.text.Write(memory[:n])
			term.mu.Unlock()
			if err != nil {
				return // the other side is closed
			}
		}
	}()
	return term
}

// shows reports whether part has been written.
func (t *terminal) shows(part string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Contains(t.text.String(), part)
}

// written closes the terminal and returns all that was written to it.
func (t *terminal) written() string {
	t.Close()
	<-t.read
	return t.text.String()
}

var cursorUp = regexp.MustCompile(`^\x1b\[(\d+)A`)

// screens plays text on a screen of so many columns, and returns what it shows whenever
// the cursor is about to go up, and at the end. Of escape codes it knows what mpb uses:
// the cursor going up, and clearing from it on.
func screens(t *testing.T, text string, columns int) [][]string {
	t.Helper()
	var all [][]string
	rows, x, y := [][]rune{{}}, 0, 0
	snapshot := func() {
		var lines []string
		for _, row := range rows {
			lines = append(lines, strings.TrimRight(string(row), " "))
		}
		all = append(all, lines)
	}
	for text != "" {
		if up := cursorUp.FindStringSubmatch(text); up != nil {
			snapshot()
			n, _ := strconv.Atoi(up[1])
			y, text = max(0, y-n), text[len(up[0]):]
			continue
		}
		if rest, ok := strings.CutPrefix(text, "\x1b[J"); ok {
			rows[y], rows, text = rows[y][:min(x, len(rows[y]))], rows[:y+1], rest
			continue
		}
		r := []rune(text[:min(len(text), 4)])[0]
		text = text[len(string(r)):]
		switch r {
		case '\r':
			x = 0
		case '\n':
			if y++; y == len(rows) {
				rows = append(rows, nil)
			}
		case '\x1b':
			t.Fatalf("an escape code that is not known: %.20q", text)
		default:
			for len(rows[y]) <= x {
				rows[y] = append(rows[y], ' ')
			}
			rows[y][x] = r
			if x++; x > columns {
				t.Errorf("a line is longer than the terminal: %q", string(rows[y]))
			}
		}
	}
	snapshot()
	return all
}

// TestTerminal computes on this machine and a worker, with a terminal for stderr: the
// table is there while the job runs, notes are whole lines, and when it is interrupted
// there is what there would be without a terminal.
func TestTerminal(t *testing.T) {
	dir := t.TempDir()
	addr := "unix:" + filepath.Join(dir, "w")
	w, err := gpurun.OpenWorker(t.Context(), &gpurun.Config{Devices: []string{"cpu"}, Listen: addr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.Serve(t.Context()) }()
	defer func() { w.Drain(); <-served }()

	const columns = 150
	term := openTerminal(t, columns, 24)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for deadline := time.Now().Add(time.Minute); !term.shows(addr+"/cpu  working") && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	var stdout buffer
	code := run(ctx, []string{
		"mandel", "--device", "cpu", "--hosts", addr, "--precision", "f64", "--julia", "-0.39054087021840008,-0.58678790734696873", "--center", "0,0",
		"--max-iter", "2147483647", "--size", "500x300", "--log", "text", "-o", filepath.Join(dir, "j.npy"),
	}, &stdout, term.File)
	text := term.written()
	if code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, text)
	}
	all := screens(t, text, columns)
	last := all[len(all)-1]
	table := 0
	for _, screen := range all[:len(all)-1] {
		for i, line := range screen {
			if strings.HasPrefix(line, "device ") && strings.Contains(line, "last error") {
				if i < 1 || !strings.Contains(screen[i-1], "%") || i+2 >= len(screen) || !strings.HasPrefix(screen[i+1], "cpu ") || !strings.HasPrefix(screen[i+2], addr+"/cpu ") {
					t.Errorf("the table is not under the bar, or not whole:\n%s", strings.Join(screen, "\n"))
				}
				table++
			}
		}
	}
	if table == 0 {
		t.Errorf("no table was shown:\n%q", text)
	}
	if len(last) != 3 || !strings.Contains(last[0], `msg="host connected"`) || last[1] != interrupted || last[2] != "" {
		t.Errorf("at the end there is\n%s", strings.Join(last, "\n"))
	}
}

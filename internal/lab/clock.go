//go:build linux && amd64

package lab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patchedClock is where a process's own clock_gettime has what it adds.
type patchedClock struct {
	offset  int64  // in seconds
	address uint64 // of the offset in the process's memory
}

// clockCode replaces __vdso_clock_gettime(edi: clock, rsi: *timespec). It takes the
// time from the kernel, and adds seconds if the clock is CLOCK_REALTIME, 0. The
// offset follows it.
var clockCode = []byte{
	0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
	0x0f, 0x05, //         syscall, which keeps edi and rsi
	0x85, 0xff, //         test edi, edi
	0x75, 10, //           jne to ret
	0x48, 0x8b, 0x0d, 4, 0, 0, 0, // mov rcx, [rip + 4], the offset
	0x48, 0x01, 0x0e, //   add [rsi], rcx
	0xc3, //               ret
}

// JumpClock makes the wall clock of p jump by d, in whole seconds, forward or back.
// No other process sees it, and p's monotonic clock does not move. It is for programs
// that read their clock through the vDSO, as Go's do. The error says why this kernel
// does not have it.
func (p *Process) JumpClock(d time.Duration) error {
	err := p.whileStopped(func() error {
		if p.clock == nil {
			if err := p.patchClock(); err != nil {
				return err
			}
		}
		p.clock.offset += int64(d / time.Second)
		return p.poke(p.clock.address, binary.LittleEndian.AppendUint64(nil, uint64(p.clock.offset)))
	})
	if err != nil {
		return fmt.Errorf("change the clock of %s: %w", p.name, err)
	}
	return nil
}

// patchClock puts clockCode into p's own copy of the vDSO, with an offset of 0. p is
// stopped.
func (p *Process) patchClock() error {
	start, size, err := p.findClock()
	if err != nil {
		return err
	}
	code := append(bytes.Clone(clockCode), make([]byte, 8)...)
	if size < uint64(len(code)) {
		return fmt.Errorf("its clock_gettime has %d bytes, and %d are needed", size, len(code))
	}
	// A thread within what is written would go on in the middle of an instruction. One
	// that is further on finishes with the old code, which stays there.
	for deadline := time.Now().Add(hangLimit); ; {
		within, err := p.anyThreadIn(start, start+uint64(len(code)))
		if err != nil {
			return err
		}
		if !within {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("a thread does not leave it")
		}
		if err := p.letRun(poll); err != nil {
			return err
		}
	}
	if err := p.poke(start, code); err != nil {
		return err
	}
	p.clock = &patchedClock{address: start + uint64(len(clockCode))}
	return nil
}

// findClock returns where p has its __vdso_clock_gettime, and how long that is.
func (p *Process) findClock() (start, size uint64, err error) {
	maps, err := os.ReadFile(p.proc("maps"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		var low, high uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &low, &high); err != nil {
			return 0, 0, err
		}
		image, err := p.peek(low, high)
		if err != nil {
			return 0, 0, err
		}
		file, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return 0, 0, err
		}
		symbols, err := file.DynamicSymbols()
		if err != nil {
			return 0, 0, err
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" {
				return low + s.Value, s.Size, nil
			}
		}
	}
	return 0, 0, errors.New("it has no __vdso_clock_gettime")
}

// anyThreadIn reports whether a thread of p, which is stopped, is at an instruction
// from low to high.
func (p *Process) anyThreadIn(low, high uint64) (bool, error) {
	files, err := filepath.Glob(p.proc("task/*/syscall"))
	if err != nil {
		return false, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		fields := strings.Fields(string(text))
		at, err := strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil {
			return false, fmt.Errorf("where a thread is: %w", err)
		}
		if low <= at && at < high {
			return true, nil
		}
	}
	return false, nil
}

// peek reads p's memory.
func (p *Process) peek(low, high uint64) ([]byte, error) {
	memory, err := os.Open(p.proc("mem"))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	return io.ReadAll(io.NewSectionReader(memory, int64(low), int64(high-low)))
}

// poke writes p's memory, also where p itself may only read: the kernel then gives
// it a copy of the page, as it does for a debugger's breakpoints.
func (p *Process) poke(at uint64, data []byte) error {
	memory, err := os.OpenFile(p.proc("mem"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	_, err = memory.WriteAt(data, int64(at))
	return err
}

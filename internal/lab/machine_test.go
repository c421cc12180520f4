//go:build linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// running returns how many processes there are in a namespace.
func running(t *testing.T, namespace string) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil || len(all) == 0 {
		t.Fatalf("there are the processes %v (%v)", all, err)
	}
	for _, link := range all {
		if at, err := os.Readlink(link); err == nil && at == namespace {
			n++
		}
	}
	return n
}

// namespaces returns how the kernel calls where the processes of machines are.
func namespaces(t *testing.T, machines ...*Machine) (all []string) {
	t.Helper()
	for _, m := range machines {
		at, err := os.Readlink(m.first.proc("ns/pid"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, at)
	}
	return all
}

// TestMachine has processes on machines, which have names, and are all gone with these.
func TestMachine(t *testing.T) {
	outside, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	t.Run("machines", func(t *testing.T) {
		l := New(t, 2)
		machines := l.Machines(t, "here", "there")
		m := machines[0]
		all = namespaces(t, machines...)
		p := m.Start(t, []string{"WHO=me"}, "sh", "-c", `hostname; getent hosts there; pwd; echo $WHO; sleep 1000 & echo $! >id`)
		if code, got := p.Wait(), strings.Fields(p.Said()); code != 0 || len(got) != 5 || got[0] != "here" || got[1] != l.Host(1).IP || got[3] != p.Dir() || got[4] != "me" {
			t.Errorf("exit code %d: %s", code, p.Said())
		}
		id, err := os.ReadFile(filepath.Join(p.Dir(), "id"))
		if err != nil {
			t.Fatal(err)
		}
		left := m.Path("/proc/" + strings.TrimSpace(string(id)))
		if _, err := os.Stat(left); err != nil {
			t.Errorf("what was started in the background: %v", err)
		}
		// Whoever kills it, it has to be gone: Slurm waits for that.
		enter := m.Enter()
		if out, err := exec.Command(enter[0], append(enter[1:], "kill", "-9", strings.TrimSpace(string(id)))...).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		m.first.until("waits for it", func() bool { _, err := os.Stat(left); return err != nil })
		m.Start(t, nil, "sh", "-c", "sleep 1000 & echo begun; sleep 1000").WaitFor("begun")
		if n := running(t, all[0]); n < 3 {
			t.Errorf("there are %d processes", n)
		}
	})
	for _, namespace := range all {
		if n := running(t, namespace); n > 0 {
			t.Errorf("%d processes are left", n)
		}
	}
	if now, err := os.Hostname(); now != outside {
		t.Errorf("this process is on %s (%v), and was on %s", now, err, outside)
	}
}

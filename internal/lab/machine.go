//go:build linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Machine is a host that has more of its own than a network: a name, /etc/hosts, and
// processes. These end when its test does, or this process, whoever has started them. The
// other files are those of all.
type Machine struct {
	*Host
	Name string

	first *Process // of its processes; the kernel ends the others with it
	pids  *os.File // the namespace of their ids
}

// boot gives a machine the name $0 and $1 as /etc/hosts. It then waits for processes whose
// parents have ended.
const boot = `mount -t proc proc /proc && hostname "$0" && mount --bind "$1" /etc/hosts || exit
echo up
sleep infinity &
while :; do wait; done`

// Machines makes machines of l's hosts, as many as there are names, by which they know each
// other.
func (l *Lab) Machines(t testing.TB, names ...string) []*Machine {
	t.Helper()
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n")
	for i, name := range names {
		text.WriteString(l.hosts[i].IP + " " + name + "\n")
	}
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var all []*Machine
	for i, name := range names {
		cmd := exec.Command("sh", "-c", boot, name, file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS}
		m := &Machine{Host: l.hosts[i], Name: name, first: l.hosts[i].start(t, name, nil, cmd)}
		all = append(all, m)
	}
	for _, m := range all {
		m.first.WaitFor("up")
		var err error
		if m.pids, err = os.Open(m.first.proc("ns/pid")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.pids.Close() })
	}
	return all
}

// Start is Host.Start for a process of m. It gets no signal when this process ends, as there
// it has no parent, which Go takes for one that has ended: it ends with m.
func (m *Machine) Start(t testing.TB, env []string, command string, args ...string) *Process {
	t.Helper()
	cmd := m.command(t.TempDir(), command, args...)
	cmd.WaitDelay = 20 * poll // what it has started may have its outputs too
	return m.begin(t, filepath.Base(command), env, cmd, m.fork)
}

// command returns a command for m, which fork has to start.
func (m *Machine) command(dir, command string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", slices.Concat([]string{"--mount=" + m.first.proc("ns/mnt"), "--uts=" + m.first.proc("ns/uts"),
		"sh", "-c", inFolder, dir, command}, args)...)
	cmd.Dir = dir
	return cmd
}

// fork calls f, which starts processes on m, as Host.Do does.
func (m *Machine) fork(f func() error) error {
	return m.Do(func() error {
		home, err := os.Open("/proc/thread-self/ns/pid")
		if err != nil {
			return err
		}
		defer home.Close()
		if err := setNamespace(m.pids, syscall.CLONE_NEWPID); err != nil {
			return err
		}
		defer func() {
			if err := setNamespace(home, syscall.CLONE_NEWPID); err != nil {
				panic(err) // what this thread started next would be in the wrong place
			}
		}()
		return f()
	})
}

// Enter returns the command by which processes that are on no machine start one on m: the
// words of that one follow.
func (m *Machine) Enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(m.first.cmd.Process.Pid), "--net", "--mount", "--uts", "--pid"}
}

// Path returns by what path a file of m is found from outside of it, such as those in /proc.
func (m *Machine) Path(file string) string { return m.first.proc("root" + file) }

//go:build linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPod looks around in a pod.
func TestPod(t *testing.T) {
	l := New(t, 1)
	const user, group = 65532, 65533
	hosts, data := filepath.Join(t.TempDir(), "hosts"), t.TempDir()
	if err := os.WriteFile(hosts, []byte("10.0.0.1 one\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, 0, group); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o770); err != nil {
		t.Fatal(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	p := l.Host(0).StartPod(t, Pod{
		Name: "pod-0", Env: []string{"X=some words"}, User: user, Group: group,
		Mounts: []Mount{{data, "/data/deep", false}, {data, "/mine", true}, {hosts, "/etc/hosts", true}},
	}, shell, "-c", `
		echo user $(id -u) $(id -g) $(id -G), process $$, $(hostname), "$X", $(cat /etc/hosts)
		env | sort | cut -d= -f1 | tr '\n' ' '
		grep -E '^(Cap|NoNew)' /proc/self/status | tr -d '\n\t'
		touch /x; touch /usr/x; touch /mine/x; touch /data/deep/y && ls /mine
		echo at the end; exec sleep 1000`)
	p.WaitFor("at the end")
	said := p.Said()
	for _, want := range []string{
		"user 65532 65532 65532 65533, process 1, pod-0, some words, 10.0.0.1 one\n", "PATH PWD X ",
		"CapInh:0000000000000000CapPrm:0000000000000000CapEff:0000000000000000CapBnd:0000000000000000", "NoNewPrivs:1", "\ny\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not there", want)
		}
	}
	if n := strings.Count(said, "Read-only file system"); n != 3 {
		t.Errorf("%d of 3 places are read-only", n)
	}
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if t.Failed() {
		t.Log(said)
	}
}

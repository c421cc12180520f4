//go:build linux

package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// Pod is what a process finds in a pod of Kubernetes, as far as a kernel makes it: a network
// and a name of its own, a root that it cannot write to, volumes, and a user without
// privileges. It is the first process there.
type Pod struct {
	Name   string   // of the machine
	Env    []string // the whole environment, but for PATH
	User   int      // of the process, and its group
	Group  int      // another group of the user's
	Mounts []Mount
}

// Mount is a file or a folder, and the path at which a pod has it.
type Mount struct {
	Source, Path string
	ReadOnly     bool
}

// enterPod makes a root in $1, an empty folder, with the name $2, and $3 mounts, of which each
// has "ro" or "rw", what it is and where, and runs a command, whose words follow.
const enterPod = `set -e
root=$1 name=$2 mounts=$3
shift 3
mount -t tmpfs -o mode=755 pod "$root"
place() {
	if [ -d "$2" ]; then mkdir -p "$root$3"; else mkdir -p "$(dirname "$root$3")" && touch "$root$3"; fi
	mount --bind "$2" "$root$3"
	[ "$1" = rw ] || mount -o remount,bind,ro "$root$3"
}
for i in bin sbin lib lib64; do
	if [ -L /$i ]; then cp -P /$i "$root"; elif [ -d /$i ]; then place ro /$i /$i; fi
done
place ro /usr /usr
for i in null zero random urandom; do place rw /dev/$i /dev/$i; done
while [ $mounts -gt 0 ]; do
	place "$1" "$2" "$3"
	shift 3
	mounts=$((mounts-1))
done
mkdir "$root/proc"
mount -t proc proc "$root/proc"
mount -o remount,ro "$root"
hostname "$name"
exec "$@"`

// StartPod starts a program, the file at path, in a pod that has the network of h. Signals
// reach it alone, and whatever it has started ends with it. It ends when t does.
func (h *Host) StartPod(t testing.TB, pod Pod, path string, args ...string) *Process {
	t.Helper()
	const entry = "/entrypoint"
	root := t.TempDir()
	mounts := append([]Mount{{path, entry, true}}, pod.Mounts...)
	words := []string{"-c", enterPod, "sh", root, pod.Name, strconv.Itoa(len(mounts))}
	for _, m := range mounts {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		words = append(words, mode, m.Source, m.Path)
	}
	words = slices.Concat(words, []string{"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, pod.Env, []string{
		"chroot", root, "setpriv", fmt.Sprintf("--reuid=%d", pod.User), fmt.Sprintf("--regid=%d", pod.User), fmt.Sprintf("--groups=%d", pod.Group),
		"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", entry,
	}, args)
	cmd := exec.Command("sh", words...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Unshareflags: syscall.CLONE_NEWNS}
	return h.start(t, filepath.Base(path)+" of "+pod.Name, nil, cmd)
}

//go:build unix

package launch

import (
	"errors"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestFind reads what launchers leave in the environment.
func TestFind(t *testing.T) {
	hydra := map[string]string{"PMI_RANK": "3", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
	slurm := map[string]string{"PMI_RANK": "3", "PMI_SIZE": "7", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
		"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "7"}
	with := func(env map[string]string, more ...string) map[string]string {
		all := map[string]string{}
		for k, v := range env {
			all[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for _, test := range []struct {
		name string
		env  map[string]string
		want *Group
		err  string
	}{
		{"hydra", hydra, &Group{Launcher: "mpiexec", Rank: 3, Size: 8, LocalRank: 1, LocalSize: 2}, ""},
		{"hydra in sbatch", with(slurm, "PMI_RANK", "0", "MPI_LOCALRANKID", "0", "MPI_LOCALNRANKS", "7"), &Group{Launcher: "mpiexec", Size: 7, LocalSize: 7}, ""},
		{"slurm", slurm, &Group{Launcher: "srun", Rank: 3, Size: 7, LocalRank: 1, LocalSize: 2}, ""},
		{"slurm, last node", with(slurm, "PMI_RANK", "6", "SLURM_NODEID", "3", "SLURM_LOCALID", "0"), &Group{Launcher: "srun", Rank: 6, Size: 7, LocalSize: 1}, ""},
		{"another", map[string]string{"PMI_RANK": "1", "PMI_SIZE": "2"}, &Group{Launcher: "mpiexec", Rank: 1, Size: 2, LocalSize: 1}, ""},
		{"one process", with(hydra, "PMI_RANK", "0", "PMI_SIZE", "1", "MPI_LOCALRANKID", "0", "MPI_LOCALNRANKS", "1"), nil, ""},
		{"off", with(hydra, "GPURUN_LAUNCH", "off"), nil, ""},
		{"no rank", with(hydra, "PMI_RANK", ""), nil, "PMI_RANK"},
		{"rank out of range", with(hydra, "PMI_RANK", "8"), nil, "rank 8 of 8"},
		{"more on this machine than in all", with(hydra, "MPI_LOCALNRANKS", "9"), nil, "9"},
		{"unknown node", with(slurm, "SLURM_NODEID", "4"), nil, "node 4"},
		{"no list", with(slurm, "SLURM_STEP_TASKS_PER_NODE", ""), nil, "SLURM_STEP_TASKS_PER_NODE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fd := socket(t, test.want != nil)
			got, err := Find(func(name string) string { return with(test.env, "PMI_FD", fd)[name] }, Options{})
			if test.err != "" {
				if !errors.Is(err, ErrLaunch) || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%+v, %v; want an error about %s", got, err, test.err)
				}
				return
			}
			if got != nil {
				got.board.abandon()
				got.board = nil
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%+v, %v; want %+v", got, err, test.want)
			}
		})
	}
	for _, env := range []map[string]string{
		{}, {"SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, {"JOB_COMPLETION_INDEX": "1"},
		{"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"},
	} {
		if g, err := Find(func(name string) string { return env[name] }, Options{}); g != nil || err != nil {
			t.Errorf("%v: %+v, %v", env, g, err)
		}
	}
	for name, env := range map[string]map[string]string{
		"of no file":      with(hydra, "PMI_FD", "4000"),
		"of no number":    with(hydra, "PMI_FD", "x"),
		"of the standard": with(hydra, "PMI_FD", "1"),
	} {
		if _, err := Find(func(name string) string { return env[name] }, Options{}); !errors.Is(err, ErrLaunch) {
			t.Errorf("PMI_FD %s: %v", name, err)
		}
	}
	if _, err := Find(func(name string) string { return map[string]string{"GPURUN_LAUNCH": "no"}[name] }, Options{}); err == nil {
		t.Error("GPURUN_LAUNCH=no is taken")
	}
}

// socket returns the number of a file descriptor of which the other end is a launcher. It
// is the callee's to close if taken.
func socket(t *testing.T, taken bool) string {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(pair[1]), "launcher")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	m := &manager{values: map[string]string{}, size: 1}
	m.ended.Go(func() { m.serve(conn) })
	t.Cleanup(func() {
		if !taken {
			syscall.Close(pair[0])
		}
		conn.Close()
		m.ended.Wait()
	})
	return strconv.Itoa(pair[0])
}

// TestDial has addresses that refuse before the one that answers, and alone.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	conn, addr, err := Dial(t.Context(), []string{gone.Addr().String(), "nowhere", l.Addr().String()})
	if err != nil || addr != l.Addr().String() || conn.RemoteAddr().String() != addr {
		t.Fatal(conn, err)
	}
	conn.Close()
	l.Close()
	if _, _, err := Dial(t.Context(), []string{gone.Addr().String(), l.Addr().String()}); !errors.Is(err, ErrRefused) {
		t.Errorf("all refuse: %v", err)
	}
	if _, _, err := Dial(t.Context(), []string{gone.Addr().String(), "nowhere"}); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("one refuses, and one is none: %v", err)
	}
}

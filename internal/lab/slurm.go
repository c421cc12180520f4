//go:build linux

package lab

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/testenv"
)

// Slurm is a cluster that Slurm manages. Its head is the machine "head" on the lab's first
// host, and its nodes are "n1", "n2" and so on, on the others. Each node has 4 CPUs and 2
// GPUs, as far as Slurm knows.
type Slurm struct {
	Head  *Machine
	Nodes []*Machine

	t       testing.TB
	dir     string
	daemons []*Process // slurmd, by node
}

// Slurm starts a cluster on l's hosts, which lasts until t ends. Where that cannot be it
// skips t, or fails it where GPURUN_REQUIRE names slurm.
func (l *Lab) Slurm(t testing.TB) *Slurm {
	t.Helper()
	for _, command := range []string{"munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol"} {
		if _, err := exec.LookPath(command); err != nil {
			testenv.Missing(t, "slurm", "a cluster of Slurm takes the command "+command)
		}
	}
	names := []string{"head"}
	for i := range len(l.hosts) - 1 {
		names = append(names, fmt.Sprint("n", i+1))
	}
	machines := l.Machines(t, names...)
	s := &Slurm{Head: machines[0], Nodes: machines[1:], t: t, dir: t.TempDir()}
	s.configure()
	t.Cleanup(s.logSteps)
	s.Head.Start(t, nil, "munged", "--foreground", "--force", "--key-file="+s.file("munge.key"), "--socket="+s.file("munge.socket"),
		"--pid-file="+s.file("munge.pid"), "--seed-file="+s.file("munge.seed"), "--log-file="+s.file("munge.log"))
	s.until("munged listens", func() bool { _, err := os.Stat(s.file("munge.socket")); return err == nil })
	s.Start(t, s.Head, nil, "slurmctld", "-D")
	s.until("slurmctld answers", func() bool { _, err := s.run("scontrol", "ping"); return err == nil })
	s.daemons = make([]*Process, len(s.Nodes))
	for i := range s.Nodes {
		s.StartDaemon(i)
	}
	for i := range s.Nodes {
		s.WaitState(i, "IDLE")
	}
	return s
}

func (s *Slurm) file(name string) string { return filepath.Join(s.dir, name) }

// slurmConf is slurm.conf of the cluster with the folder $DIR. A job that was put back into
// the queue waits for as many seconds as cred_expire says.
const slurmConf = `ClusterName=lab
SlurmctldHost=head
SlurmUser=root
AuthInfo=socket=$DIR/munge.socket,cred_expire=5
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool.%n
TmpFS=$DIR/tmp.%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.%n.pid
SlurmdLogFile=$DIR/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiParams=ports=17400-17500
NodeName=n[1-$N] CPUs=4 RealMemory=1000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
`

// configure writes what the daemons read.
func (s *Slurm) configure() {
	s.t.Helper()
	key := make([]byte, 128)
	rand.Read(key)
	fill := strings.NewReplacer("$DIR", s.dir, "$N", fmt.Sprint(len(s.Nodes)))
	for name, text := range map[string]string{
		"munge.key":   string(key),
		"slurm.conf":  fill.Replace(slurmConf),
		"gres.conf":   fill.Replace("AutoDetect=off\nNodeName=n[1-$N] Name=gpu File=$DIR/gpu[0-1] Flags=nvidia_gpu_env\n"),
		"cgroup.conf": "CgroupPlugin=cgroup/v1\n",
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	folders := []string{"state"}
	for _, m := range s.Nodes {
		folders = append(folders, "tmp."+m.Name)
	}
	for _, name := range folders {
		if err := os.Mkdir(s.file(name), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	const null = 1<<8 | 3 // the numbers of /dev/null: a GPU has to be a device
	for _, name := range []string{"gpu0", "gpu1"} {
		if err := syscall.Mknod(s.file(name), syscall.S_IFCHR|0o666, null); err != nil {
			testenv.Missing(s.t, "slurm", "a device for a GPU cannot be made: "+err.Error())
		}
	}
}

// logSteps logs what nodes have said, also of steps that they have begun, if the test failed.
func (s *Slurm) logSteps() {
	for _, m := range s.Nodes {
		if said, err := os.ReadFile(s.file("slurmd." + m.Name + ".log")); err == nil && s.t.Failed() {
			s.t.Logf("slurmd of %s said:\n%s", m.Name, said)
		}
	}
}

// Start starts a command of Slurm, or one that uses some, on m.
func (s *Slurm) Start(t testing.TB, m *Machine, env []string, command string, args ...string) *Process {
	t.Helper()
	return m.Start(t, append([]string{s.env()}, env...), command, args...)
}

// Run runs a command on the head, which has to succeed, and returns what it says.
func (s *Slurm) Run(t testing.TB, command string, args ...string) string {
	t.Helper()
	said, err := s.run(command, args...)
	if err != nil {
		t.Fatalf("%s %s: %v: %s", command, strings.Join(args, " "), err, said)
	}
	return said
}

func (s *Slurm) run(command string, args ...string) (said string, err error) {
	cmd := s.Head.command(s.dir, command, args...)
	cmd.Env = append(os.Environ(), s.env())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.Head.fork(cmd.Start); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return out.String(), err
}

// env is what the environment of Slurm's commands has to have.
func (s *Slurm) env() string { return "SLURM_CONF=" + s.file("slurm.conf") }

// StartDaemon starts the slurmd of node i, counted from 0, which does not run.
func (s *Slurm) StartDaemon(i int) {
	s.t.Helper()
	s.daemons[i] = s.Start(s.t, s.Nodes[i], nil, "slurmd", "-D")
}

// Daemon returns the slurmd of node i.
func (s *Slurm) Daemon(i int) *Process { return s.daemons[i] }

// SetState has an administrator set the state of node i.
func (s *Slurm) SetState(i int, state string) {
	s.t.Helper()
	s.Run(s.t, "scontrol", "update", "NodeName="+s.Nodes[i].Name, "State="+state, "Reason=test")
}

// State returns in what state Slurm has node i, such as IDLE or DOWN+NOT_RESPONDING.
func (s *Slurm) State(i int) string {
	s.t.Helper()
	return field(s.Run(s.t, "scontrol", "show", "node", "--oneliner", s.Nodes[i].Name), "State")
}

// WaitState waits until Slurm has node i in a state.
func (s *Slurm) WaitState(i int, state string) {
	s.t.Helper()
	s.until(s.Nodes[i].Name+" is "+state, func() bool { return s.State(i) == state })
}

// JobState returns in what state a job is, such as RUNNING.
func (s *Slurm) JobState(id string) string {
	s.t.Helper()
	return field(s.Run(s.t, "scontrol", "show", "job", "--oneliner", id), "JobState")
}

// WaitJob waits until a job is in one of these states, and returns in which.
func (s *Slurm) WaitJob(id string, states ...string) (state string) {
	s.t.Helper()
	s.until(fmt.Sprintf("job %s is %v", id, states), func() bool {
		state = s.JobState(id)
		return slices.Contains(states, state)
	})
	return state
}

// field returns what a line of key=value pairs has for key.
func field(line, key string) string {
	for _, word := range strings.Fields(line) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return value
		}
	}
	return ""
}

func (s *Slurm) until(what string, holds func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(hangLimit); !holds(); time.Sleep(20 * poll) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not before %v: %s", hangLimit, what)
		}
	}
}

//go:build linux

package gpurun_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gpurun/gpurun/internal/lab"
)

// workload is what deploy/kubernetes says of pods, as far as they are made from it here.
type workload struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Completions int
		ServiceName string `yaml:"serviceName"`
		Template    struct {
			Spec struct {
				Subdomain       string
				SecurityContext struct {
					User  int `yaml:"runAsUser"`
					Group int `yaml:"fsGroup"`
				} `yaml:"securityContext"`
				Containers []struct {
					Args         []string
					Env          []struct{ Name, Value string }
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name   string
					Secret *struct {
						DefaultMode os.FileMode `yaml:"defaultMode"`
					}
					EmptyDir *struct{} `yaml:"emptyDir"`
				}
			}
		}
	}
}

// readWorkload returns the object of a kind in a file of deploy/kubernetes.
func readWorkload(t *testing.T, file, kind string) *workload {
	t.Helper()
	f, err := os.Open(filepath.Join("deploy", "kubernetes", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		w := new(workload)
		if err := d.Decode(w); errors.Is(err, io.EOF) {
			t.Fatalf("%s has no %s", file, kind)
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if w.Kind == kind {
			return w
		}
	}
}

// pods are those of a workload, each on a machine of its own that no other pod had before.
type pods struct {
	*workload
	p     *program
	l     *lab.Lab
	next  int    // the next machine
	data  string // the folder of the claim, which all mount
	names *clusterNames
}

// newPods returns a cluster for as many pods of w, one after the other or at the same time.
func newPods(t *testing.T, p *program, w *workload, most int) *pods {
	t.Helper()
	l := lab.New(t, 1+most)
	c := &pods{workload: w, p: p, l: l, next: 1, names: serveNames(t, l.Host(0))}
	c.data = c.folder(t)
	return c
}

// folder returns a new folder as the kubelet makes it for a pod that has an fsGroup.
func (c *pods) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(os.Chown(dir, 0, c.Spec.Template.Spec.SecurityContext.Group), os.Chmod(dir, 0o770|os.ModeSetgid))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// secret returns a folder with the key as the kubelet makes it: the file is a link to one that
// is root's, and that the group may read whatever mode was asked for.
func (c *pods) secret(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir := c.folder(t)
	key, err := os.ReadFile(c.p.key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "..1", "cluster.key")
	err = errors.Join(
		os.Mkdir(filepath.Dir(name), 0o755), os.WriteFile(name, key, 0o600),
		os.Chown(name, 0, c.Spec.Template.Spec.SecurityContext.Group), os.Chmod(name, mode|0o440),
		os.Symlink("..1", filepath.Join(dir, "..data")), os.Symlink("..data/cluster.key", filepath.Join(dir, "cluster.key")),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// pod is one of pods.
type pod struct {
	*lab.Process
	c      *pods
	host   *lab.Host
	name   string // in DNS
	mounts []lab.Mount
}

// start starts the pod of an index, whose name is not known yet, with more arguments than the
// manifest has.
func (c *pods) start(t *testing.T, index int, more ...string) *pod {
	t.Helper()
	return c.run(t, index, append(slices.Clone(c.Spec.Template.Spec.Containers[0].Args), more...))
}

// run starts a pod with other arguments.
func (c *pods) run(t *testing.T, index int, args []string) *pod {
	t.Helper()
	spec, host := c.Spec.Template.Spec, c.l.Host(c.next)
	c.next++
	name := fmt.Sprintf("%s-%d", c.Metadata.Name, index)
	in := lab.Pod{
		Name: name, User: spec.SecurityContext.User, Group: spec.SecurityContext.Group,
		Env:    []string{"HOSTNAME=" + name, "GOMAXPROCS=1"}, // so that a job does not end too soon
		Mounts: []lab.Mount{{Source: c.names.file, Path: "/etc/resolv.conf", ReadOnly: true}},
	}
	if c.Kind == "Job" {
		in.Env = append(in.Env, fmt.Sprintf("JOB_COMPLETION_INDEX=%d", index))
	}
	container := spec.Containers[0]
	for _, e := range container.Env {
		in.Env = append(in.Env, e.Name+"="+e.Value)
	}
	for _, m := range container.VolumeMounts {
		mount := lab.Mount{Source: c.data, Path: m.MountPath}
		for _, v := range spec.Volumes {
			switch {
			case v.Name != m.Name:
			case v.Secret != nil:
				mount.Source, mount.ReadOnly = c.secret(t, v.Secret.DefaultMode), true
			case v.EmptyDir != nil:
				mount.Source = c.folder(t)
			}
		}
		in.Mounts = append(in.Mounts, mount)
	}
	service := spec.Subdomain + c.Spec.ServiceName // of which a workload has one
	return &pod{host.StartPod(t, in, c.p.path, args...), c, host, name + "." + service, in.Mounts}
}

// job starts the pod of an index for labView.
func (c *pods) job(t *testing.T, index int) *pod {
	t.Helper()
	return c.start(t, index, append(slices.Clone(labView), "--output=/data/image.npy", "--json")...)
}

// appear makes the name of a pod known.
func (d *pod) appear() { d.c.names.set(d.name, d.host.IP) }

// vanish ends a pod with a signal, and its name with it. It returns the exit code.
func (d *pod) vanish(s syscall.Signal) int {
	d.Signal(s)
	code := d.Wait()
	d.c.names.set(d.name, "")
	return code
}

// waitTimes waits until the pod has written text n times.
func (d *pod) waitTimes(t *testing.T, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); strings.Count(d.Said(), text) < n; time.Sleep(5 * time.Millisecond) {
		if d.Ended() || time.Now().After(deadline) {
			t.Fatalf("%s has not said %q %d times", d.name, text, n)
		}
	}
}

// health returns what the pod's probes would get.
func (d *pod) health(t *testing.T) int {
	t.Helper()
	var code int
	err := d.host.Do(func() error { // in this goroutine, which a client of package http would not do
		conn, err := net.Dial("tcp", d.host.IP+":9474")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			code = response.StatusCode
			err = response.Body.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// finish waits until all pods are done, the first of them rank 0, and checks the result. It
// returns how many others did tiles for that.
func (c *pods) finish(t *testing.T, all ...*pod) int {
	t.Helper()
	for _, d := range all {
		if code := d.Wait(); code != 0 {
			t.Errorf("%s: exit code %d", d.name, code)
		}
	}
	c.p.right(t, filepath.Join(c.data, "image.npy"))
	return workersOf(t, all[0].Process)
}

// workersOf returns how many devices of others have done tiles, by a coordinator's report.
func workersOf(t *testing.T, c *lab.Process) (n int) {
	t.Helper()
	var report struct {
		Devices []struct {
			Host  string
			Tiles int
		}
	}
	text := c.Said()
	if err := json.NewDecoder(strings.NewReader(text[max(0, strings.Index(text, "{")):])).Decode(&report); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, d := range report.Devices {
		if d.Host != "" && d.Tiles > 0 {
			n++
		}
	}
	return n
}

// TestKubernetes runs the manifests of deploy/kubernetes in pods that the kernel makes, with
// this test in the place of the controllers, of DNS and of the kubelet.
func TestKubernetes(t *testing.T) {
	lab.New(t, 1)
	p := buildProgram(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *program)
	}{
		{"job", testPods},
		{"preempted", testPodsPreempted},
		{"restarted", testPodsRestarted},
		{"workers", testPodsStanding},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, p)
		})
	}
}

// testPods starts rank 0 last, and its name is known later still.
func testPods(t *testing.T, p *program) {
	c := newPods(t, p, readWorkload(t, "job.yaml", "Job"), 3)
	two, one := c.job(t, 2), c.job(t, 1)
	zero := c.job(t, 0)
	zero.WaitBusy(midway / 2)
	zero.appear()
	if n := c.finish(t, zero, one, two); n != 2 {
		t.Errorf("%d workers took part", n)
	}
}

// testPodsPreempted has a worker preempted. It comes again elsewhere.
func testPodsPreempted(t *testing.T, p *program) {
	c := newPods(t, p, readWorkload(t, "job.yaml", "Job"), 4)
	zero, one, two := c.job(t, 0), c.job(t, 1), c.job(t, 2)
	zero.appear()
	one.WaitFor("coordinator connected")
	one.WaitBusy(midway)
	if code := one.vanish(syscall.SIGTERM); code != 143 {
		t.Errorf("the exit code is %d, and only with 143 is the worker started again and not counted", code)
	}
	one = c.job(t, 1)
	one.WaitFor("coordinator connected")
	c.finish(t, zero, one, two)
}

// testPodsRestarted has rank 0 preempted and then killed. It comes again at other addresses,
// and the workers find it.
func testPodsRestarted(t *testing.T, p *program) {
	c := newPods(t, p, readWorkload(t, "job.yaml", "Job"), 5)
	one, two := c.job(t, 1), c.job(t, 2)
	for i, end := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 130}, {syscall.SIGKILL, -1}} {
		zero := c.job(t, 0)
		zero.appear()
		for _, d := range []*pod{one, two} {
			d.waitTimes(t, "coordinator connected", i+1)
		}
		zero.WaitBusy(10 * midway) // so that it has results to keep: first it looks at what costs how much
		if code := zero.vanish(end.signal); code != end.code {
			t.Errorf("the exit code of rank 0 is %d, and not %d", code, end.code)
		}
	}
	zero := c.job(t, 0)
	zero.appear()
	c.finish(t, zero, one, two)
	if !strings.Contains(zero.Said(), "% of it from /data/state") {
		t.Error("nothing is left of what had been done")
	}
}

// testPodsStanding has a worker of worker.yaml die while it computes for a coordinator that
// knows its name, and come again at another address.
func testPodsStanding(t *testing.T, p *program) {
	c := newPods(t, p, readWorkload(t, "worker.yaml", "StatefulSet"), 3)
	worker := c.start(t, 0)
	worker.WaitFor("listening at")
	if code := worker.health(t); code != http.StatusOK {
		t.Errorf("/healthz answers %d", code)
	}
	worker.appear()
	job := c.run(t, 1, append([]string{
		"mandel", "--hosts=" + worker.name + ":9473", "--key=/etc/gpurun/cluster.key", "--device=none", "--wait=5m", "--output=/tmp/image.npy",
	}, labView...))
	worker.WaitBusy(midway)
	worker.vanish(syscall.SIGKILL)
	worker = c.start(t, 0)
	worker.appear()
	if code := job.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	tmp := slices.IndexFunc(job.mounts, func(m lab.Mount) bool { return m.Path == "/tmp" })
	p.right(t, filepath.Join(job.mounts[tmp].Source, "image.npy"))
	if code := worker.vanish(syscall.SIGTERM); code != 0 {
		t.Errorf("the worker's exit code is %d", code)
	}
}

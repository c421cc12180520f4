package kubernetestest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// drain is for how long a worker finishes its tiles after SIGTERM, at most.
const drain = 30 * time.Second

// workload is something that has pods.
type workload struct {
	file     string
	name     string
	service  string // that gives its pods names
	template corev1.PodTemplateSpec
}

// container returns the container of a workload's pods, of which there is one.
func (w workload) container(t *testing.T) corev1.Container {
	t.Helper()
	if n := len(w.template.Spec.Containers) + len(w.template.Spec.InitContainers); n != 1 {
		t.Fatalf("%s: there are %d containers", w.file, n)
	}
	return w.template.Spec.Containers[0]
}

// flag returns the value of a flag of the command, or "".
func (w workload) flag(t *testing.T, name string) string {
	t.Helper()
	for _, arg := range w.container(t).Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// all returns all objects of one type.
func all[T any](t *testing.T) (objects []T) {
	t.Helper()
	for _, m := range manifests(t) {
		if o, ok := m.object.(T); ok {
			objects = append(objects, o)
		}
	}
	if len(objects) == 0 {
		t.Fatalf("there is no %T", *new(T))
	}
	return objects
}

func workloads(t *testing.T) (found []workload) {
	t.Helper()
	for _, m := range manifests(t) {
		switch o := m.object.(type) {
		case *batchv1.Job:
			found = append(found, workload{m.file, o.Name, o.Spec.Template.Spec.Subdomain, o.Spec.Template})
		case *appsv1.StatefulSet:
			found = append(found, workload{m.file, o.Name, o.Spec.ServiceName, o.Spec.Template})
		}
	}
	if len(found) < 2 {
		t.Fatalf("there are %d workloads", len(found))
	}
	return found
}

// matches reports whether selector selects the pods of w.
func (w workload) matches(t *testing.T, selector *metav1.LabelSelector) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(w.template.Labels))
}

// TestServices looks at whether each pod has its name from a service that is its own.
func TestServices(t *testing.T) {
	services := map[string]*corev1.Service{}
	for _, s := range all[*corev1.Service](t) {
		services[s.Name] = s
	}
	for _, w := range workloads(t) {
		s := services[w.service]
		if s == nil {
			t.Errorf("%s: there is no service %q", w.file, w.service)
			continue
		}
		if s.Spec.ClusterIP != corev1.ClusterIPNone {
			t.Errorf("service %s has an address of its own, and its pods no names", s.Name)
		}
		for _, other := range workloads(t) {
			if got := other.matches(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}); got != (other.name == w.name) {
				t.Errorf("service %s selects the pods of %s: %v", s.Name, other.name, got)
			}
		}
		ports := w.container(t).Ports
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(ports, func(c corev1.ContainerPort) bool { return c.ContainerPort == p.Port && c.Name == p.Name }) {
				t.Errorf("service %s has port %s %d, and %s not", s.Name, p.Name, p.Port, w.name)
			}
		}
	}
}

// TestPorts looks at whether the command listens at the ports that are declared, and at no
// others, and whether probes ask where it answers.
func TestPorts(t *testing.T) {
	for _, w := range workloads(t) {
		c := w.container(t)
		for _, p := range c.Ports {
			flag := map[string]string{"gpurun": "listen", "metrics": "metrics"}[p.Name]
			if got := w.flag(t, flag); got != fmt.Sprintf(":%d", p.ContainerPort) {
				t.Errorf("%s: port %s is %d, and --%s is %s", w.file, p.Name, p.ContainerPort, flag, got)
			}
		}
		if len(c.Ports) != 2 {
			t.Errorf("%s: there are %d ports", w.file, len(c.Ports))
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			if probe != nil && (probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "metrics" || probe.HTTPGet.Path != "/healthz") {
				t.Errorf("%s: a probe asks %v", w.file, probe.HTTPGet)
			}
		}
	}
}

// TestDrain looks at whether a worker has the time to finish its tiles, in which /healthz
// answers 503.
func TestDrain(t *testing.T) {
	for _, w := range workloads(t) {
		grace := w.template.Spec.TerminationGracePeriodSeconds
		if grace == nil || time.Duration(*grace)*time.Second <= drain {
			t.Errorf("%s: the grace period is shorter than a worker may drain", w.file)
		}
		if p := w.container(t).LivenessProbe; p != nil && time.Duration(p.PeriodSeconds*(p.FailureThreshold-1))*time.Second <= drain {
			t.Errorf("%s: a worker that drains is taken for dead", w.file)
		}
	}
}

// TestJob looks at what makes the ranks of a job find each other, and come again.
func TestJob(t *testing.T) {
	services, pods := all[*corev1.Service](t), workloads(t)
	for _, j := range all[*batchv1.Job](t) {
		w := pods[slices.IndexFunc(pods, func(w workload) bool { return w.name == j.Name })]
		if got, want := w.flag(t, "join"), j.Name+"-0."+w.service+w.flag(t, "listen"); got != want {
			t.Errorf("--join is %s, and rank 0 is at %s", got, want)
		}
		if *j.Spec.CompletionMode != batchv1.IndexedCompletion || *j.Spec.Completions != *j.Spec.Parallelism {
			t.Error("not all ranks run at the same time")
		}
		if j.Spec.BackoffLimitPerIndex == nil || *j.Spec.PodReplacementPolicy != batchv1.Failed {
			t.Error("ranks are not started again by themselves, one after the other")
		}
		if s := j.Spec.SuccessPolicy; s == nil || len(s.Rules) != 1 || *s.Rules[0].SucceededIndexes != "0" {
			t.Error("the job is not done when rank 0 is")
		}
		for _, s := range services {
			if s.Name == w.service && !s.Spec.PublishNotReadyAddresses {
				t.Error("rank 0 cannot be found before it is ready")
			}
		}
		if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
			t.Error("a container that ended by SIGTERM is started again on the node that is to be left")
		}
	}
}

// TestVolumes looks at whether what the command reads and writes is on volumes, since its
// own root is read-only, and whether the key's file is its own.
func TestVolumes(t *testing.T) {
	claims := all[*corev1.PersistentVolumeClaim](t)
	for _, w := range workloads(t) {
		c := w.container(t)
		volumes := map[string]corev1.VolumeSource{} // by where they are mounted
		for _, m := range c.VolumeMounts {
			i := slices.IndexFunc(w.template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
			volumes[m.MountPath] = w.template.Spec.Volumes[i].VolumeSource
		}
		key := w.flag(t, "key")
		switch s := volumes[filepath.Dir(key)].Secret; {
		case s == nil:
			t.Errorf("%s: no secret is mounted at --key=%s", w.file, key)
		case s.DefaultMode == nil || *s.DefaultMode != 0o400:
			t.Errorf("%s: the mode of the secret is not 0400", w.file)
		default:
			readmeSays(t, fmt.Sprintf("create secret generic %s --from-file=%s", s.SecretName, filepath.Base(key)))
		}
		for _, name := range []string{"state", "output"} {
			path := w.flag(t, name)
			if path == "" {
				continue
			}
			claim := volumes[filepath.Dir(path)].PersistentVolumeClaim
			if claim == nil || !slices.ContainsFunc(claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == claim.ClaimName }) {
				t.Errorf("%s: --%s=%s is on no volume that lasts", w.file, name, path)
			}
		}
		for _, e := range c.Env {
			if base := "/" + strings.Split(e.Value, "/")[1]; volumes[base].EmptyDir == nil {
				t.Errorf("%s: %s=%s cannot be written to", w.file, e.Name, e.Value)
			}
		}
		if volumes["/tmp"].EmptyDir == nil {
			t.Errorf("%s: nothing can be written to /tmp", w.file)
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if limit := c.Resources.Limits[name]; limit.IsZero() {
				t.Errorf("%s: there is no limit for %s: gpurun takes the node to be its own", w.file, name)
			}
		}
	}
}

func readmeSays(t *testing.T, words string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), words) {
		t.Errorf("README.md does not say %q", words)
	}
}

// TestPolicies looks at whom the network policy and the disruption budget are for.
func TestPolicies(t *testing.T) {
	for _, p := range all[*networkingv1.NetworkPolicy](t) {
		for _, w := range workloads(t) {
			if !w.matches(t, &p.Spec.PodSelector) {
				t.Errorf("the network policy is not for %s", w.name)
			}
			for _, c := range w.container(t).Ports {
				allowed := slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
					own := r.From[0].PodSelector != nil && w.matches(t, r.From[0].PodSelector)
					return r.Ports[0].Port.IntVal == c.ContainerPort && own == (c.Name == "gpurun")
				})
				if !allowed {
					t.Errorf("the network policy closes port %s of %s to those for whom it is", c.Name, w.name)
				}
			}
		}
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](t) {
		for _, w := range workloads(t) {
			if got := w.matches(t, b.Spec.Selector); got != (w.name == b.Name) {
				t.Errorf("the disruption budget %s is for %s: %v", b.Name, w.name, got)
			}
		}
	}
}

// TestFlags has the command itself read the arguments of the pods. With --help after them it
// only looks at whether it knows them.
func TestFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gpurun")
	build := exec.Command("go", "build", "-o", path, "./cmd/gpurun")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	for _, w := range workloads(t) {
		args := append(slices.Clone(w.container(t).Args), "--help")
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: gpurun %s: %v\n%s", w.file, strings.Join(args, " "), err, out)
		}
	}
}

// Package kubernetestest has Kubernetes itself judge the manifests: they are decoded,
// defaulted and validated by the code of its API server, and their pods by that of the
// standard "restricted", the strictest for pods.
package kubernetestest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
)

// strategies are what the API server does with a new object of each kind.
var strategies = map[string]rest.RESTCreateStrategy{
	"Job":                   job.Strategy,
	"NetworkPolicy":         networkpolicy.Strategy,
	"PersistentVolumeClaim": persistentvolumeclaim.Strategy,
	"PodDisruptionBudget":   poddisruptionbudget.Strategy,
	"Service":               service.Strategy,
	"StatefulSet":           statefulset.Strategy,
}

// manifest is an object as it is when the API server has taken it.
type manifest struct {
	file   string
	object runtime.Object
}

// manifests returns the objects of all files, in order.
func manifests(t *testing.T) (all []manifest) {
	t.Helper()
	names, err := filepath.Glob("../*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are %v (%v)", names, err)
	}
	for _, name := range names {
		for _, object := range decode(t, name) {
			all = append(all, manifest{filepath.Base(name), admit(t, name, object)})
		}
	}
	return all
}

// decode returns the objects of a file, whose fields are all known and given once.
func decode(t *testing.T, name string) (objects []runtime.Object) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v in:\n%s", name, err, document)
		}
		objects = append(objects, object)
	}
}

// warnings collects what the API server has against an object that it takes.
type warnings []string

func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

// admit returns object with its defaults, as the API server stores it.
func admit(t *testing.T, name string, object runtime.Object) runtime.Object {
	t.Helper()
	kind := object.GetObjectKind().GroupVersionKind()
	strategy := strategies[kind.Kind]
	if strategy == nil {
		t.Fatalf("%s: no strategy for %s", name, kind.Kind)
	}
	legacyscheme.Scheme.Default(object)
	internal, err := legacyscheme.Scheme.ConvertToVersion(object, schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		t.Fatal(err)
	}
	accessor, err := meta.Accessor(internal)
	if err != nil {
		t.Fatal(err)
	}
	accessor.SetNamespace("default")
	rest.FillObjectMetaSystemFields(accessor)
	if s, ok := internal.(*core.Service); ok { // what its storage does first
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	var said warnings
	ctx := warning.WithWarningRecorder(request.WithNamespace(context.Background(), "default"), &said)
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{APIGroup: kind.Group, APIVersion: kind.Version})
	if err := rest.BeforeCreate(strategy, ctx, internal); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, text := range said {
		t.Errorf("%s: %s %s: %s", name, kind.Kind, accessor.GetName(), text)
	}
	stored, err := legacyscheme.Scheme.ConvertToVersion(internal, kind.GroupVersion())
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// TestRestricted holds the pods to the strictest of the standards for their security.
func TestRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, p := range workloads(t) {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &p.template.ObjectMeta, &p.template.Spec))
		if !result.Allowed {
			t.Errorf("%s: %s", p.file, result.ForbiddenDetail())
		}
	}
}

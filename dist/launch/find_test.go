package launch

import (
	"reflect"
	"strings"
	"testing"
)

// TestFindGiven has processes that know where rank 0 is without having met.
func TestFindGiven(t *testing.T) {
	step := map[string]string{
		"SLURM_STEP_ID": "1", "SLURM_JOB_ID": "77", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "7", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
		"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_STEP_NODELIST": "n[2-4],gpu", "SLURM_STEP_RESV_PORTS": "17400-17401",
	}
	pod := map[string]string{"JOB_COMPLETION_INDEX": "3"}
	mpi := map[string]string{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "SLURM_STEP_ID": "0"}
	given := []string{"head:9473"}
	for _, test := range []struct {
		name string
		env  map[string]string
		o    Options
		want *Group
		err  string
	}{
		{"reserved port", step, Options{Keyed: true}, &Group{
			Launcher: "srun", Rank: 3, Size: 7, LocalRank: 1, LocalSize: 2, Listen: ":17400", Label: "slurm step\x00\x0077\x00\x001",
			Given: []string{"n2:17400", "n3:17400", "n4:17400", "gpu:17400"},
		}, ""},
		{"step that is told", step, Options{Join: "head:9473"}, &Group{Launcher: "srun", Rank: 3, Size: 7, LocalRank: 1, LocalSize: 2, Given: given}, ""},
		{"pod", pod, Options{Join: "head:9473", Keyed: true}, &Group{Launcher: "Kubernetes", Rank: 3, LocalSize: 1, Given: given}, ""},
		{"mpirun in a pod", with(pod, mpi), Options{Join: "head:9473"}, &Group{Launcher: "mpirun", Rank: 1, Size: 2, LocalSize: 1, Given: given}, ""},
		{"pod apart", pod, Options{}, nil, ""},
		{"pod without a number", map[string]string{"JOB_COMPLETION_INDEX": "x"}, Options{Join: "head:9473"}, nil, "JOB_COMPLETION_INDEX"},
		{"nobody", nil, Options{Join: "head:9473"}, nil, "gpurun worker --join"},
		{"off", with(pod, map[string]string{"GPURUN_LAUNCH": "off"}), Options{Join: "head:9473"}, nil, ""},
		{"no port", with(step, map[string]string{"SLURM_STEP_RESV_PORTS": "x"}), Options{Keyed: true}, nil, "SLURM_STEP_RESV_PORTS"},
		{"no hosts", with(step, map[string]string{"SLURM_STEP_NODELIST": "n[2"}), Options{Keyed: true}, nil, "SLURM_STEP_NODELIST"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := Find(func(name string) string { return test.env[name] }, test.o)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%+v, %v; want an error about %s", g, err, test.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(g, test.want) {
				t.Errorf("%+v, %v; want %+v", g, err, test.want)
			}
		})
	}
}

// with returns the variables of both.
func with(env, more map[string]string) map[string]string {
	all := map[string]string{}
	for _, variables := range []map[string]string{env, more} {
		for name, value := range variables {
			all[name] = value
		}
	}
	return all
}

func TestExpandHosts(t *testing.T) {
	for list, want := range map[string]string{
		"n2":                    "n2",
		"n[2-5]":                "n2 n3 n4 n5",
		"n[08-11,7],head":       "n08 n09 n10 n11 n7 head",
		"a[1-2]b[01-02],c":      "a1b01 a1b02 a2b01 a2b02 c",
		"gpu[001-002].x,gpu003": "gpu001.x gpu002.x gpu003",
		"rack[0-1]-[9-10]":      "rack0-9 rack0-10 rack1-9 rack1-10",
	} {
		got, err := expandHosts(list)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v; want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "a,,b", "a,", "n[", "n[]", "n[2", "n[2-]", "n[-2]", "n[3-2]", "n[a]", "n]", "a]b[1]", "n[1[2]]", "n[0-99999999]", "n[0-300][0-300]", "a b"} {
		if got, err := expandHosts(list); err == nil {
			t.Errorf("%q is %q", list, got)
		}
	}
}

// FuzzExpandHosts expands anything. What it returns has no list in it any more.
func FuzzExpandHosts(f *testing.F) {
	f.Add("n[08-11,7],head")
	f.Add("a[1-2]b[01-02]")
	f.Fuzz(func(t *testing.T, list string) {
		hosts, err := expandHosts(list)
		if err == nil && (len(hosts) == 0 || len(hosts) > maxHosts) {
			t.Errorf("%q has %d hosts", list, len(hosts))
		}
		for _, host := range hosts {
			if host == "" || strings.ContainsAny(host, "[], \t") {
				t.Errorf("%q has the host %q", list, host)
			}
		}
	})
}

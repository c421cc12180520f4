package gpurun

import (
	"fmt"
	"testing"
)

// TestHostNames has hosts of equal names come, go and come back.
func TestHostNames(t *testing.T) {
	n := newHostNames([]string{"gpu1:9473", "node3"})
	for i, step := range []struct{ drop, name, addr, want string }{
		{"", "node1", "10.0.0.1:50000", "node1"},
		{"", "node1", "10.0.0.1:50001", "node1#2"}, // another process
		{"", "node1", "10.0.0.2:50000", "node1@10.0.0.2"},
		{"", "node1", "10.0.0.2:50001", "node1@10.0.0.2#2"},
		{"node1", "node1", "10.0.0.2:50002", "node1@10.0.0.2#3"}, // it is the other machine's still
		{"", "node1", "10.0.0.1:50003", "node1"},
		{"node1#2", "node1", "10.0.0.1:50004", "node1#2"},
		{"node1@10.0.0.2", "node1", "10.0.0.2:50009", "node1@10.0.0.2"},
		{"", "gpu1:9473", "10.0.0.3:50000", "gpu1:9473@10.0.0.3"}, // who pretends to be one that was dialled
		{"", "node3", "[fe80::1]:50000", "node3@fe80::1"},
		{"", "", "10.0.0.4:50000", "10.0.0.4"},
		{"", "node5", "@", "node5"},
		{"", "node5", "@", "node5#2"},
	} {
		n.drop(step.drop)
		if got := n.take(step.name, step.addr); got != step.want {
			t.Errorf("step %d: %q at %s is called %q, want %q", i, step.name, step.addr, got, step.want)
		}
	}
	there := len(n.taken)
	for i := range 3 * mostNames {
		n.drop(n.take(fmt.Sprint("guest", i), "10.0.0.9:1"))
	}
	if len(n.taken) != there || len(n.machine) > mostNames+1 {
		t.Errorf("%d names are taken, and %d known, after %d", len(n.taken), len(n.machine), there)
	}
	if got := n.take("node1", "10.0.0.7:1"); got != "node1@10.0.0.7" {
		t.Errorf("of many that came and went, one is called %q", got)
	}
}

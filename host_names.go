package gpurun

import (
	"fmt"
	"maps"
	"net"
)

// hostNames are those by which hosts are called that joined by themselves: by what their
// machines are called, as their ports mean nothing to anybody. Those of hosts that were
// dialled are taken, by what was dialled.
type hostNames struct {
	taken   map[string]bool
	machine map[string]string // the address of the one that had the name last
}

func newHostNames(dialled []string) *hostNames {
	n := &hostNames{taken: map[string]bool{}, machine: map[string]string{}}
	for _, addr := range dialled {
		n.taken[addr], n.machine[addr] = true, addr
	}
	return n
}

// mostNames bounds how many names of hosts that have gone are kept.
const mostNames = 4096

// take returns how the host at addr is called, whose machine is called name, until drop. If
// that is another machine's name its address comes behind it; the second process of a
// machine has #2 there. A host that comes back is called as before, if it was alone.
func (n *hostNames) take(name, addr string) string {
	machine, _, err := net.SplitHostPort(addr)
	if err != nil {
		machine = addr // a unix socket, which has no port
	}
	switch had, known := n.machine[name]; {
	case name == "":
		name = machine
	case known && had != machine:
		name += "@" + machine
	}
	called := name
	for i := 2; n.taken[called]; i++ {
		called = fmt.Sprintf("%s#%d", name, i)
	}
	if len(n.machine) >= mostNames {
		maps.DeleteFunc(n.machine, func(name, _ string) bool { return !n.taken[name] })
	}
	n.taken[called], n.machine[called] = true, machine
	return called
}

// drop says that the host that is called so has gone.
func (n *hostNames) drop(called string) { delete(n.taken, called) }

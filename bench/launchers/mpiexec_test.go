//go:build linux

package launchers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/lab"
)

// openMPI is Open MPI's mpiexec, which mpi4py is built for where the system has both.
const openMPI = "mpirun.openmpi"

// mortal has a command end when what has started it does: a launcher that was killed leaves
// processes behind on the other hosts, which it cannot reach any more.
const mortal = "setpriv --pdeathsig KILL"

// remoteShell writes what launchers take for ssh: a program that is given options, a host's
// name and a command for its shell. Open MPI wants each host to have a name of its own.
func remoteShell(t testing.TB, hosts []*lab.Host) string {
	t.Helper()
	var script strings.Builder
	script.WriteString("#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1; shift\ncase $host in\n")
	for i, h := range hosts {
		fmt.Fprintf(&script, "%s) exec nsenter --net=%s unshare -u %s sh -c \"hostname host%d; exec $*\" ;;\n", h.IP, h.Namespace(), mortal, i)
	}
	script.WriteString("esac\necho no host $host >&2; exit 1\n")
	path := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(path, []byte(script.String()), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// mpiexec returns the command line that starts n processes of a command on the hosts by
// turns, and its environment. Each process writes its id to a file.
func (x *bench) mpiexec(c *contestant, n int, out string) (command, env []string) {
	const noted = `echo $$ >"$0.${PMI_RANK:-$OMPI_COMM_WORLD_RANK}"; exec ` + mortal + ` "$@"`
	program := append([]string{"sh", "-c", noted, x.processID()}, c.command...)
	if !c.openMPI {
		program = append(program, "-o", out)
	} else {
		program = append(program, out)
	}
	var names, slots []string
	for _, h := range x.hosts {
		names = append(names, h.IP)
		slots = append(slots, fmt.Sprintf("%s:%d", h.IP, n))
	}
	if !c.openMPI {
		// Without the last flag Hydra ends all when one dies.
		return slices.Concat([]string{"mpiexec.hydra", "-launcher", "ssh", "-launcher-exec", x.shell, "-localhost", names[0],
			"-hosts", strings.Join(names, ","), "-n", strconv.Itoa(n), "-disable-auto-cleanup"}, program), nil
	}
	// The hosts share their cores: Open MPI would bind processes of different hosts to the
	// same one, and rank 0, which waits in a loop, would take what the others need.
	return slices.Concat([]string{openMPI, "-H", strings.Join(slots, ","), "--map-by", "node", "-n", strconv.Itoa(n)}, program),
		[]string{
			"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_plm_rsh_agent=" + x.shell,
			"OMPI_MCA_oob_tcp_if_include=eth0", "OMPI_MCA_btl_tcp_if_include=eth0",
			"OMPI_MCA_hwloc_base_binding_policy=none", "OMPI_MCA_mpi_yield_when_idle=1",
		}
}

// processID is the name of the file with a process's id, which the rank is appended to.
func (x *bench) processID() string { return filepath.Join(x.folder, "id") }

package launch

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// Options is what the user has said of how the processes are to find rank 0.
type Options struct {
	Join  string // the address at which rank 0 listens, host:port; empty to ask the launcher
	Keyed bool   // all have the same key already
}

// Find returns the group of this process, or nil if it is by itself: no launcher that is
// known has started it, or no other process, or the environment variable GPURUN_LAUNCH is
// off. getenv is os.Getenv.
func Find(getenv func(string) string, o Options) (*Group, error) {
	switch mode := getenv("GPURUN_LAUNCH"); mode {
	case "", "auto":
	case "off":
		return nil, nil
	default:
		return nil, fmt.Errorf("GPURUN_LAUNCH is %q: it must be off, or auto, or not be set", mode)
	}
	for _, l := range launchers {
		if getenv(l.sign) == "" || l.joinOnly && o.Join == "" {
			continue
		}
		g, err := l.find(getenv, o)
		if err != nil {
			return nil, &Error{g.Launcher, err}
		}
		if g.Size == 1 {
			return nil, g.letGo()
		}
		return g, nil
	}
	if o.Join != "" {
		return nil, errors.New("no launcher has started this process that says whether it is rank 0: gpurun worker --join is for processes that are started by hand")
	}
	return nil, nil
}

// launcher is how to recognise one, and what it says.
type launcher struct {
	name     string
	sign     string // is in the environment of its processes
	joinOnly bool   // its processes work apart unless they are told where rank 0 is

	// The names of what is in the environment. Without localRank Slurm is asked, if it is
	// there.
	rank, size, localRank, localSize string

	board func(getenv func(string) string, o Options, g *Group) (board, error)
}

// launchers are in the order in which they are looked for: those of MPI first, since they may
// run inside a job of Slurm's, or in pods of Kubernetes, and leave its variables as they were.
var launchers = []launcher{
	{
		name: "mpirun", sign: "OMPI_COMM_WORLD_RANK", board: pmixBoard, // Open MPI
		rank: "OMPI_COMM_WORLD_RANK", size: "OMPI_COMM_WORLD_SIZE", localRank: "OMPI_COMM_WORLD_LOCAL_RANK", localSize: "OMPI_COMM_WORLD_LOCAL_SIZE",
	}, {
		name: "mpiexec", sign: "PMI_PORT", board: pmiPortBoard, // Hydra, with -pmi-port
		rank: "PMI_ID", localRank: "MPI_LOCALRANKID", localSize: "MPI_LOCALNRANKS",
	}, {
		name: "mpiexec", sign: "MPI_LOCALRANKID", board: pmiBoard, // Hydra
		rank: "PMI_RANK", size: "PMI_SIZE", localRank: "MPI_LOCALRANKID", localSize: "MPI_LOCALNRANKS",
	},
	{name: "mpiexec", sign: "PMI_FD", rank: "PMI_RANK", size: "PMI_SIZE", board: pmiBoard}, // srun --mpi=pmi2, too
	{name: "srun", sign: "SLURM_STEP_ID", rank: "SLURM_PROCID", size: "SLURM_STEP_NUM_TASKS", board: stepBoard},
	{name: "Kubernetes", sign: "JOB_COMPLETION_INDEX", rank: "JOB_COMPLETION_INDEX", joinOnly: true},
}

// find returns the group of this process as l says. Where there is an error the group has no
// more than the launcher's name.
func (l *launcher) find(getenv func(string) string, o Options) (*Group, error) {
	g := &Group{Launcher: l.name}
	if l.sign == "PMI_FD" && getenv("SLURM_STEP_ID") != "" {
		g.Launcher = "srun"
	}
	if err := l.count(getenv, g); err != nil || g.Size == 1 {
		return g, err
	}
	if o.Join != "" {
		g.Given = []string{o.Join}
		return g, nil
	}
	var err error
	g.board, err = l.board(getenv, o, g)
	return g, err
}

// count reads the ranks and sizes of g.
func (l *launcher) count(getenv func(string) string, g *Group) error {
	var errs []error
	number := func(name string) int {
		n, err := strconv.Atoi(getenv(name))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is %q and no number", name, getenv(name)))
		}
		return n
	}
	g.Rank, g.LocalSize = number(l.rank), 1
	if l.size != "" {
		g.Size = number(l.size)
	}
	switch {
	case l.localRank != "":
		g.LocalRank, g.LocalSize = number(l.localRank), number(l.localSize)
	case getenv("SLURM_LOCALID") != "":
		var err error
		g.LocalRank = number("SLURM_LOCALID")
		if g.LocalSize, err = tasksOnNode(getenv("SLURM_STEP_TASKS_PER_NODE"), number("SLURM_NODEID")); err != nil {
			errs = append(errs, err)
		}
	}
	size := cmp.Or(g.Size, g.Rank+g.LocalSize) // where it is not known there is no limit
	switch {
	case len(errs) > 0:
		return errs[0]
	case l.size != "" && g.Size < 1 || g.Rank < 0 || g.Rank >= size:
		return fmt.Errorf("this process is rank %d of %d", g.Rank, g.Size)
	case g.LocalSize < 1 || g.LocalSize > size || g.LocalRank < 0 || g.LocalRank >= g.LocalSize:
		return fmt.Errorf("this process is number %d of the %d on this machine, and %d in all", g.LocalRank, g.LocalSize, g.Size)
	}
	return nil
}

func pmiBoard(getenv func(string) string, _ Options, _ *Group) (board, error) {
	return openPMI(getenv("PMI_FD"))
}

// pmiPortBoard learns from the launcher itself what place this process has.
func pmiPortBoard(getenv func(string) string, _ Options, g *Group) (board, error) {
	p, err := dialPMI(getenv("PMI_PORT"), getenv("PMI_ID"))
	if err != nil {
		return nil, err
	}
	g.Rank, g.Size = p.rank, p.size
	return p, nil
}

// errNoPMIx is matched by errors that say that there is no library of PMIx.
var errNoPMIx = errors.New("the library of PMIx, libpmix.so.2, is not to be found")

// pmixBoard returns a board of PMIx, or, where its library is not to be found, as that of an
// Open MPI that has it built in, a folder.
func pmixBoard(getenv func(string) string, _ Options, g *Group) (board, error) {
	b, err := openPMIx(getenv)
	if !errors.Is(err, errNoPMIx) {
		return b, err
	}
	return openFolder(getenv, g, "PMIX_NAMESPACE")
}

// stepBoard returns a board for a step of Slurm's, by what srun was asked to offer with
// --mpi, or to set aside.
func stepBoard(getenv func(string) string, o Options, g *Group) (board, error) {
	switch {
	case getenv("PMIX_RANK") != "":
		return openPMIx(getenv)
	case o.Keyed && getenv("SLURM_STEP_RESV_PORTS") != "":
		return nil, g.giveStep(getenv)
	}
	return openFolder(getenv, g, stepNames...)
}

// stepNames are what tells a step of Slurm's from others.
var stepNames = []string{"SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID"}

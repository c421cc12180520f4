package launch

import (
	"fmt"
	"strconv"
	"strings"
)

// tasksOnNode returns how many tasks of a step are on its node of the given number, as
// SLURM_STEP_TASKS_PER_NODE lists them: "2(x3),1" for nodes with 2, 2, 2, and 1.
func tasksOnNode(list string, node int) (int, error) {
	first := 0
	for part := range strings.SplitSeq(list, ",") {
		count, times, repeated := strings.Cut(part, "(x")
		tasks, err := strconv.Atoi(count)
		nodes := 1
		if repeated && err == nil {
			nodes, err = strconv.Atoi(strings.TrimSuffix(times, ")"))
		}
		if err != nil || tasks < 1 || nodes < 1 {
			break
		}
		if node >= first && node-first < nodes {
			return tasks, nil
		}
		first += nodes
	}
	return 0, fmt.Errorf("SLURM_STEP_TASKS_PER_NODE is %q, which does not say what node %d has", list, node)
}

// Processors returns how many processors of this machine the launcher has set aside for
// the processes, or 0 where it does not say. getenv is os.Getenv.
func Processors(getenv func(string) string) int {
	n, err := strconv.Atoi(getenv("SLURM_CPUS_ON_NODE"))
	if err != nil || getenv("SLURM_STEP_ID") == "" {
		return 0
	}
	return max(0, n)
}

package launch

import (
	"fmt"
	"net"
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

// giveStep has the processes of a step look for rank 0 on the step's hosts, at the port that
// is set aside for it there. Which of them is its host Slurm does not say where the user has
// arranged the tasks, so all are asked; somebody else who listens has not the key that is
// derived for this step.
func (g *Group) giveStep(getenv func(string) string) error {
	hosts, err := expandHosts(getenv("SLURM_STEP_NODELIST"))
	if err != nil {
		return fmt.Errorf("SLURM_STEP_NODELIST is %q: %w", getenv("SLURM_STEP_NODELIST"), err)
	}
	ports := getenv("SLURM_STEP_RESV_PORTS")
	port, _, _ := strings.Cut(ports, ",")
	port, _, _ = strings.Cut(port, "-")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("SLURM_STEP_RESV_PORTS is %q and no port", ports)
	}
	for _, host := range hosts {
		g.Given = append(g.Given, net.JoinHostPort(host, port))
	}
	g.Listen = ":" + port
	label := []string{"slurm step"}
	for _, name := range stepNames {
		label = append(label, getenv(name))
	}
	g.Label = strings.Join(label, "\x00")
	return nil
}

// maxHosts bounds the hosts of a step, and a part of their list.
const maxHosts = 1 << 16

// expandHosts returns the hosts of a list such as Slurm writes: "n[01-03,7],head" stands for
// n01, n02, n03, n7 and head.
func expandHosts(list string) ([]string, error) {
	var hosts []string
	for more := true; more; {
		end := endOfHost(list)
		expanded, err := expandHost(list[:end])
		if err != nil {
			return nil, err
		}
		if hosts = append(hosts, expanded...); len(hosts) > maxHosts {
			return nil, fmt.Errorf("it has more than %d hosts", maxHosts)
		}
		list, more = strings.CutPrefix(list[end:], ",")
	}
	return hosts, nil
}

// endOfHost returns where the first entry of a list ends: at a comma out of brackets.
func endOfHost(list string) int {
	inside := false
	for i := range len(list) {
		switch list[i] {
		case '[':
			inside = true
		case ']':
			inside = false
		case ',':
			if !inside {
				return i
			}
		}
	}
	return len(list)
}

// expandHost returns the hosts of an entry: text with any number of [ranges] in it.
func expandHost(entry string) ([]string, error) {
	open := strings.IndexByte(entry, '[')
	if open < 0 {
		if entry == "" || strings.ContainsAny(entry, "] \t") {
			return nil, fmt.Errorf("%q is no host", entry)
		}
		return []string{entry}, nil
	}
	if strings.ContainsAny(entry[:open], "] \t") {
		return nil, fmt.Errorf("%q is no host", entry)
	}
	length := strings.IndexByte(entry[open:], ']')
	if length < 0 {
		return nil, fmt.Errorf("%q has no end", entry)
	}
	rest := []string{""}
	if after := entry[open+length+1:]; after != "" {
		var err error
		if rest, err = expandHost(after); err != nil {
			return nil, err
		}
	}
	var hosts []string
	for part := range strings.SplitSeq(entry[open+1:open+length], ",") {
		numbers, err := expandRange(part)
		if err != nil {
			return nil, err
		}
		if len(hosts)+len(numbers)*len(rest) > maxHosts {
			return nil, fmt.Errorf("it has more than %d hosts", maxHosts)
		}
		for _, number := range numbers {
			for _, after := range rest {
				hosts = append(hosts, entry[:open]+number+after)
			}
		}
	}
	return hosts, nil
}

// expandRange returns the numbers of "08-11", as wide as they are written, or of "7".
func expandRange(text string) ([]string, error) {
	from, to, ranges := strings.Cut(text, "-")
	if !ranges {
		to = from
	}
	first, err1 := strconv.ParseUint(from, 10, 32)
	last, err2 := strconv.ParseUint(to, 10, 32)
	if err1 != nil || err2 != nil || last < first || last-first >= maxHosts {
		return nil, fmt.Errorf("%q is no range of hosts", text)
	}
	var numbers []string
	for n := first; n <= last; n++ {
		numbers = append(numbers, fmt.Sprintf("%0*d", len(from), n))
	}
	return numbers, nil
}

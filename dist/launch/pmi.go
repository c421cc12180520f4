package launch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// pmi is the wire protocol of PMI, version 1.1: lines of key=value pairs, each of this
// process and then one of the launcher. MPICH's Hydra speaks it, and srun --mpi=pmi2. See
// "PMI: A Scalable Parallel Process-Management Interface for Extreme-Scale Systems" (Balaji
// et al., EuroMPI 2010).
type pmi struct {
	conn io.ReadWriteCloser
	in   *bufio.Reader
	name string // of the key-value space
	most int    // characters of a value

	rank, size int // of this process, where it is told them by the wire
}

// maxLine bounds what the launcher says at once, in characters.
const maxLine = 8192

// openPMI begins to talk to the launcher, by the file descriptor of which the number is
// text. Processes that this one starts do not get it.
func openPMI(text string) (*pmi, error) {
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("PMI_FD is %q and no file descriptor", text)
	}
	file := os.NewFile(uintptr(fd), "PMI_FD")
	conn, err := net.FileConn(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("PMI_FD is %d, which is no connection to a launcher: %w", fd, err)
	}
	return newPMI(conn)
}

// dialPMI begins to talk to a launcher that listens at addr, for the process that it knows
// as id, and learns rank and size.
func dialPMI(addr, id string) (*pmi, error) {
	conn, err := net.DialTimeout("tcp", addr, dialLimit)
	if err != nil {
		return nil, fmt.Errorf("PMI_PORT is %q: %w", addr, err)
	}
	p := &pmi{conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	if err = p.introduce(id); err == nil {
		err = p.begin()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

// introduce says who this is, and is told its size, its rank, and whether to write a log.
func (p *pmi) introduce(id string) error {
	_, err := p.ask("initack pmiid="+id, "initack")
	for _, want := range []struct {
		name string
		at   *int
	}{{"size", &p.size}, {"rank", &p.rank}, {"debug", new(int)}} {
		var said map[string]string
		if err == nil {
			said, err = p.answer("initack", "set")
		}
		if err != nil {
			return err
		}
		if *want.at, err = strconv.Atoi(said[want.name]); err != nil {
			return fmt.Errorf("PMI: the launcher says that %s is %q", want.name, said[want.name])
		}
	}
	if p.rank < 0 || p.rank >= p.size {
		return fmt.Errorf("PMI: the launcher says that this process is rank %d of %d", p.rank, p.size)
	}
	return nil
}

func newPMI(conn io.ReadWriteCloser) (*pmi, error) {
	p := &pmi{conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	if err := p.begin(); err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

func (p *pmi) begin() error {
	if _, err := p.ask("init pmi_version=1 pmi_subversion=1", "response_to_init"); err != nil {
		return fmt.Errorf("it does not answer, or one gpurun was started by the same process before this: %w", err)
	}
	limits, err := p.ask("get_maxes", "maxes")
	if err != nil {
		return err
	}
	if p.most, err = strconv.Atoi(limits["vallen_max"]); err != nil {
		return fmt.Errorf("PMI: the launcher's limit of values is %q", limits["vallen_max"])
	}
	space, err := p.ask("get_my_kvsname", "my_kvsname")
	p.name = space["kvsname"]
	return err
}

func (p *pmi) post(text string) error {
	if len(text) > p.most {
		return fmt.Errorf("PMI: the launcher takes %d characters, and the addresses of this machine are %d", p.most, len(text))
	}
	_, err := p.ask(fmt.Sprintf("put kvsname=%s key=%s value=%s", p.name, boardKey, text), "put_result")
	return err
}

func (p *pmi) wait() error {
	_, err := p.ask("barrier_in", "barrier_out")
	return err
}

func (p *pmi) read() (string, error) {
	said, err := p.ask(fmt.Sprintf("get kvsname=%s key=%s", p.name, boardKey), "get_result")
	return said["value"], err
}

func (p *pmi) abandon() { p.conn.Close() }

func (p *pmi) leave() error {
	_, err := p.ask("finalize", "finalize_ack")
	return err
}

// ask says cmd and returns what is answered, which has to be the answer called want.
func (p *pmi) ask(cmd, want string) (map[string]string, error) {
	name, _, _ := strings.Cut(cmd, " ")
	if _, err := io.WriteString(p.conn, "cmd="+cmd+"\n"); err != nil {
		return nil, fmt.Errorf("PMI: say %s: %w", name, err)
	}
	return p.answer(name, want)
}

// answer waits for the answer called want to the command called name.
func (p *pmi) answer(name, want string) (map[string]string, error) {
	line, err := p.in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("PMI: wait for the answer to %s: %w", name, err)
	}
	said := pairs(string(line))
	if said["cmd"] != want || said["rc"] != "" && said["rc"] != "0" {
		return nil, fmt.Errorf("PMI: the answer to %s is %.80q", name, line)
	}
	return said, nil
}

// pairs returns the key=value pairs of a line.
func pairs(line string) map[string]string {
	all := map[string]string{}
	for _, word := range strings.Fields(line) {
		if key, value, ok := strings.Cut(word, "="); ok {
			all[key] = value
		}
	}
	return all
}

package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// manager is a launcher's side of PMI 1.1, for a group of processes that are goroutines.
type manager struct {
	mu      sync.Mutex
	values  map[string]string
	waiting []net.Conn
	size    int
	said    []string // by all processes
	answers map[string]string
	ended   sync.WaitGroup
}

// listen has m wait for processes to connect to it, and returns where.
func (m *manager) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m.ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.ended.Go(func() {
				defer conn.Close()
				m.serve(conn)
			})
		}
	})
	return l.Addr().String()
}

// newManager returns the connections of size processes to a launcher, which gives answers
// of its own to some commands.
func newManager(t *testing.T, size int, answers map[string]string) (*manager, []net.Conn) {
	m := &manager{values: map[string]string{}, size: size, answers: answers}
	t.Cleanup(m.ended.Wait)
	var conns []net.Conn
	for range size {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close(); there.Close() })
		m.ended.Go(func() { m.serve(there) })
		conns = append(conns, here)
	}
	return m, conns
}

func (m *manager) serve(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		line := lines.Text()
		if line == "cmd=barrier_in" && m.answers["barrier_in"] == "" {
			m.barrier(conn)
			continue
		}
		if _, err := fmt.Fprintln(conn, m.answer(line)); err != nil {
			return
		}
	}
}

// barrier lets all processes go on when each of them waits.
func (m *manager) barrier(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, "cmd=barrier_in")
	if m.waiting = append(m.waiting, conn); len(m.waiting) < m.size {
		return
	}
	for _, c := range m.waiting {
		go fmt.Fprintln(c, "cmd=barrier_out")
	}
}

func (m *manager) answer(line string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, line)
	cmd := map[string]string{}
	for _, word := range strings.Split(line, " ") {
		if i := strings.IndexByte(word, '='); i > 0 {
			cmd[word[:i]] = word[i+1:]
		}
	}
	if own, ok := m.answers[cmd["cmd"]]; ok {
		return own
	}
	switch cmd["cmd"] {
	case "initack":
		return fmt.Sprintf("cmd=initack\ncmd=set size=%d\ncmd=set rank=%s\ncmd=set debug=0", m.size, cmd["pmiid"])
	case "init":
		return "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0"
	case "get_maxes":
		return "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024"
	case "get_my_kvsname":
		return "cmd=my_kvsname kvsname=kvs_1_0"
	case "put":
		m.values[cmd["kvsname"]+"/"+cmd["key"]] = cmd["value"]
		return "cmd=put_result rc=0 msg=success"
	case "get":
		if value, ok := m.values[cmd["kvsname"]+"/"+cmd["key"]]; ok {
			return "cmd=get_result rc=0 msg=success value=" + value
		}
		return "cmd=get_result rc=-1 msg=key_not_found value=unknown"
	case "finalize":
		return "cmd=finalize_ack"
	}
	return "cmd=unknown"
}

// TestPMIPort has processes that connect to the launcher, and learn their ranks there.
func TestPMIPort(t *testing.T) {
	m := &manager{values: map[string]string{}, size: 3}
	t.Cleanup(m.ended.Wait)
	addr := m.listen(t)
	var all []*Group
	for id := range m.size {
		env := map[string]string{"PMI_PORT": addr, "PMI_ID": strconv.Itoa(id), "MPI_LOCALRANKID": strconv.Itoa(id), "MPI_LOCALNRANKS": "3"}
		g, err := Find(func(name string) string { return env[name] }, Options{})
		if err != nil || g.Rank != id || g.Size != m.size || g.LocalRank != id || g.LocalSize != 3 {
			t.Fatalf("%+v, %v", g, err)
		}
		all = append(all, g)
	}
	meet(t, all, somewhere)
}

// TestPMIPortErrors has launchers that say nonsense, or only one process.
func TestPMIPortErrors(t *testing.T) {
	for answer, want := range map[string]string{
		"cmd=initack\ncmd=set size=1\ncmd=set rank=0\ncmd=set debug=0":  "",
		"cmd=initack\ncmd=set size=2\ncmd=set rank=2\ncmd=set debug=0":  "rank 2 of 2",
		"cmd=initack\ncmd=set size=x\ncmd=set rank=2\ncmd=set debug=0":  "size",
		"cmd=initack\ncmd=set size=2\ncmd=set size=2\ncmd=set debug=0":  "rank",
		"cmd=initack\ncmd=other size=2\ncmd=set rank=1\ncmd=set debug=": "other",
		"cmd=no": "cmd=no",
	} {
		m := &manager{values: map[string]string{}, size: 1, answers: map[string]string{"initack": answer}}
		t.Cleanup(m.ended.Wait)
		env := map[string]string{"PMI_PORT": m.listen(t), "PMI_ID": "0", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
		g, err := Find(func(name string) string { return env[name] }, Options{})
		if g != nil || (want == "") != (err == nil) || want != "" && (!errors.Is(err, ErrLaunch) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %+v, %v", answer, g, err)
		}
	}
	env := map[string]string{"PMI_PORT": "127.0.0.1:1", "PMI_ID": "0", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
	if _, err := Find(func(name string) string { return env[name] }, Options{}); !errors.Is(err, ErrLaunch) {
		t.Errorf("nobody listens: %v", err)
	}
}

// groups returns the processes of a group.
func groups(t *testing.T, size int, answers map[string]string) []*Group {
	t.Helper()
	_, conns := newManager(t, size, answers)
	var all []*Group
	for i, conn := range conns {
		p, err := newPMI(conn)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &Group{Launcher: "test", Rank: i, Size: size, board: p})
	}
	return all
}

var somewhere = Meeting{Addrs: []string{"10.0.0.1:4242", "[fd00::2]:4242"}, Key: "gpurun-key-1:abc", Command: "xyz"}

// TestMeet has rank 0 post where it is, and that it could not begin.
func TestMeet(t *testing.T) {
	for size, posted := range map[int]Meeting{2: somewhere, 3: {}, 9: somewhere} {
		meet(t, groups(t, size, nil), posted)
	}
}

// meet has the processes of a group meet.
func meet(t *testing.T, all []*Group, posted Meeting) {
	t.Helper()
	var others sync.WaitGroup
	for _, g := range all[1:] {
		others.Go(func() {
			m, err := g.Meet(t.Context())
			if err != nil || !reflect.DeepEqual(m, posted) {
				t.Errorf("rank %d learns %+v (%v)", g.Rank, m, err)
			}
		})
	}
	if err := all[0].Post(posted); err != nil {
		t.Error(err)
	}
	if err := all[0].Wait(t.Context()); err != nil {
		t.Error(err)
	}
	others.Wait()
}

// TestMeetCancelled has one process that never comes.
func TestMeetCancelled(t *testing.T) {
	all := groups(t, 3, nil)
	if err := all[0].Post(somewhere); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if err := all[0].Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("rank 0: %v", err)
		}
	})
	both.Go(func() {
		if _, err := all[1].Meet(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("rank 1: %v", err)
		}
	})
	time.AfterFunc(10*time.Millisecond, cancel)
	both.Wait()
}

func TestPMIErrors(t *testing.T) {
	for _, test := range []struct{ cmd, answer, want string }{
		{"init", "cmd=response_to_init rc=-1", "init"},
		{"init", "cmd=no", "init"},
		{"init", strings.Repeat("x", 2*maxLine), "init"},
		{"get_maxes", "cmd=maxes vallen_max=many", "many"},
		{"get_my_kvsname", "", "get_my_kvsname"},
	} {
		_, conns := newManager(t, 1, map[string]string{test.cmd: test.answer})
		if _, err := newPMI(conns[0]); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %.20q: %v", test.cmd, test.answer, err)
		}
	}
	for cmd, answer := range map[string]string{
		"put":        "cmd=put_result rc=-1",
		"get_maxes":  "cmd=maxes vallen_max=20",
		"barrier_in": "cmd=barrier_out rc=1",
		"finalize":   "cmd=nothing",
	} {
		g := groups(t, 1, map[string]string{cmd: answer})[0]
		err := g.Post(somewhere)
		if err == nil {
			err = g.Wait(t.Context())
		}
		if !errors.Is(err, ErrLaunch) || !strings.Contains(err.Error(), "GPURUN_LAUNCH=off") {
			t.Errorf("%s: %s: %v", cmd, answer, err)
		}
	}
}

// TestMeetNonsense has rank 0 post what is nothing, or nothing at all.
func TestMeetNonsense(t *testing.T) {
	for _, text := range []string{"", "no", version, version + ";;", version + ";;;a", "gpurun-launch-2;;;a:1",
		version + ";;;a:1;", version + ";;;" + strings.Repeat("a:1,", maxAddrs) + "a:1"} {
		all := groups(t, 1, map[string]string{"get": "cmd=get_result rc=0 value=" + text})
		if m, err := all[0].Meet(t.Context()); !errors.Is(err, ErrLaunch) {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	}
	all := groups(t, 1, nil)
	if m, err := all[0].Meet(t.Context()); !errors.Is(err, ErrLaunch) {
		t.Errorf("nothing posted: %+v, %v", m, err)
	}
}

// FuzzMeeting decodes anything. What it takes it would have posted itself.
func FuzzMeeting(f *testing.F) {
	f.Add(somewhere.encode())
	f.Add(version + ";;;:1")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decode(text)
		if err == nil && m.encode() != text {
			t.Errorf("%q is %+v, which is %q", text, m, m.encode())
		}
	})
}

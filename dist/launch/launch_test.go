package launch

import (
	"net"
	"reflect"
	"strings"
	"testing"
)

func TestTasksOnNode(t *testing.T) {
	for _, test := range []struct {
		list string
		node int
		want int
	}{
		{"4", 0, 4}, {"2(x3),1", 0, 2}, {"2(x3),1", 2, 2}, {"2(x3),1", 3, 1}, {"1,2,3(x2)", 3, 3},
		{"4", 1, 0}, {"", 0, 0}, {"x", 0, 0}, {"2(x", 0, 0}, {"2(x0)", 0, 0}, {"0", 0, 0}, {"-1", 0, 0}, {"2", -1, 0},
		{"2(x9223372036854775807),2(x9)", 5, 2},
	} {
		got, err := tasksOnNode(test.list, test.node)
		if got != test.want || (err == nil) != (test.want > 0) {
			t.Errorf("%q, node %d: %d, %v; want %d", test.list, test.node, got, err, test.want)
		}
	}
}

func TestCommand(t *testing.T) {
	a, b, c := Command([]string{"mandel", "-o", "a"}), Command([]string{"mandel", "-o", "b"}), Command([]string{"mandel", "-oa"})
	if a == b || a == c || a != Command([]string{"mandel", "-o", "a"}) || strings.ContainsAny(a, " ;,\n") {
		t.Errorf("%q, %q, %q", a, b, c)
	}
}

func TestAddrs(t *testing.T) {
	one := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 99}
	if got, err := Addrs(one); err != nil || !reflect.DeepEqual(got, []string{"10.1.2.3:99"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Addrs(&net.UnixAddr{Name: "/x"}); err == nil {
		t.Error("a unix socket can be reached from elsewhere")
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addrs, err := Addrs(l.Addr())
	if err != nil || len(addrs) == 0 {
		t.Fatal(addrs, err)
	}
	conn, _, err := Dial(t.Context(), addrs)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

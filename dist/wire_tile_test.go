package dist

import (
	"bytes"
	"math"
	"testing"
)

func TestTileMessagesAreCBOR(t *testing.T) {
	for _, v := range []int64{0, 1, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, math.MaxInt64, -1, -25, math.MinInt64} {
		lease := leaseMessage{Lease: uint64(max(v, 0)), Job: 7, X: int(v), Y: 1, W: int(v), H: 300}
		result := resultMessage{Lease: 9, Busy: v, Waited: 1e9, BytesIn: v, BytesOut: v, Read: v}
		checkTileMessage(t, lease, lease.appendTo(nil), v < 0, (*leaseMessage).read)
		checkTileMessage(t, result, result.appendTo(nil), v < 0, (*resultMessage).read)
	}
}

// checkTileMessage checks that got is what the CBOR package makes of m, and
// that read takes it and no part of it, or nothing where values are negative.
func checkTileMessage[M comparable](t *testing.T, m M, got []byte, negative bool, read func(*M, []byte) bool) {
	t.Helper()
	want, err := encoding.Marshal(m)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%+v is % x, want % x (%v)", m, got, want, err)
	}
	var back M
	if ok := read(&back, got); ok == negative || ok && back != m {
		t.Errorf("% x was read as %+v, %v", got, back, ok)
	}
	for n := range got {
		if read(&back, got[:n]) {
			t.Errorf("%d bytes of % x were read", n, got)
		}
	}
	if read(&back, append(got, 0)) {
		t.Error("a byte too many was read")
	}
	back = *new(M)
	if err := (frame{message: want}).decode(&back); err != nil || back != m {
		t.Errorf("% x was decoded as %+v, %v", want, back, err)
	}
}

package dist

import (
	"encoding/binary"
	"math"
)

// The two messages that every tile takes, encoded and decoded by hand: the
// CBOR package takes as long for them as all the rest of a small tile. The
// bytes are the same. What else a peer may send, and still be right, is left
// to the package.

func (m leaseMessage) appendTo(b []byte) []byte {
	if max(m.Lease, m.Job) > math.MaxInt64 {
		b, _ = appendCBOR(b, m) // which fails for types that cannot be encoded
		return b
	}
	return appendFields(b, int64(m.Lease), int64(m.Job), int64(m.X), int64(m.Y), int64(m.W), int64(m.H))
}

func (m *leaseMessage) read(b []byte) bool {
	var v [6]int64
	if !readFields(b, v[:]) {
		return false
	}
	*m = leaseMessage{uint64(v[0]), uint64(v[1]), int(v[2]), int(v[3]), int(v[4]), int(v[5])}
	return true
}

func (m resultMessage) appendTo(b []byte) []byte {
	if m.Lease > math.MaxInt64 {
		b, _ = appendCBOR(b, m)
		return b
	}
	return appendFields(b, int64(m.Lease), m.Busy, m.Waited, m.BytesIn, m.BytesOut, int64(m.Encoding), m.Read)
}

func (m *resultMessage) read(b []byte) bool {
	var v [7]int64
	if !readFields(b, v[:]) || v[5] > math.MaxUint8 {
		return false
	}
	*m = resultMessage{uint64(v[0]), v[1], v[2], v[3], v[4], encodingType(v[5]), v[6]}
	return true
}

// appendFields appends the map of fewer than 24 values with the keys from 1 on.
func appendFields(b []byte, values ...int64) []byte {
	b = append(b, 0xa0|byte(len(values)))
	for i, v := range values {
		b = append(b, byte(i+1))
		major, u := byte(0), uint64(v)
		if v < 0 {
			major, u = 0x20, ^u
		}
		switch {
		case u < 24:
			b = append(b, major|byte(u))
		case u <= math.MaxUint8:
			b = append(b, major|24, byte(u))
		case u <= math.MaxUint16:
			b = binary.BigEndian.AppendUint16(append(b, major|25), uint16(u))
		case u <= math.MaxUint32:
			b = binary.BigEndian.AppendUint32(append(b, major|26), uint32(u))
		default:
			b = binary.BigEndian.AppendUint64(append(b, major|27), u)
		}
	}
	return b
}

// readFields is the inverse of appendFields, for values that are not negative.
// It reports false where b is anything else.
func readFields(b []byte, values []int64) bool {
	if len(b) == 0 || b[0] != 0xa0|byte(len(values)) {
		return false
	}
	b = b[1:]
	for i := range values {
		if len(b) < 2 || b[0] != byte(i+1) || b[1] > 27 {
			return false
		}
		u, size := uint64(b[1]), 0
		if u >= 24 {
			size = 1 << (u - 24)
		}
		b = b[2:]
		if len(b) < size {
			return false
		}
		if size > 0 {
			u = 0
			for _, x := range b[:size] {
				u = u<<8 | uint64(x)
			}
		}
		if u > math.MaxInt64 {
			return false
		}
		values[i], b = int64(u), b[size:]
	}
	return len(b) == 0
}

//go:build !amd64

package machine

func fmaLoop() (loop func(turns int), bytes int) { return nil, 0 }

func readLoop() func(p *byte, n int) { return nil }

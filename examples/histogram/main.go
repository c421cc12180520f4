// Histogram counts the bytes of a file by their values, with a kernel that has local memory.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/gpurun/gpurun"
)

const (
	values = 256
	blocks = 64 // each counts a part of the bytes
)

// counting has one work-group for each block, a row of the output.
var counting = (&gpurun.Kernel{
	Source: `
kernel void count_values(global const uchar *data, long n, global uint *counts, int tile_y, int size_h)
{
	local uint here[256];
	const int value = get_local_id(0), row = get_global_id(1), block = tile_y + row;
	here[value] = 0;
	barrier(CLK_LOCAL_MEM_FENCE);
	for (long i = n*block/size_h + value; i < n*(block + 1)/size_h; i += 256)
		atomic_inc(&here[data[i]]);
	barrier(CLK_LOCAL_MEM_FENCE);
	counts[row*256 + value] = here[value];
}`,
	Group:     [2]int{values, 1},
	WholeRows: true,
	CPU: func(p *gpurun.Part) error {
		data, counts := gpurun.Elements[uint8](p, "data"), gpurun.Elements[uint32](p, "counts")
		_, y, _, h := p.Bounds()
		for row := range h {
			clear(counts[row*values:][:values])
			for _, v := range data[len(data)*(y+row)/blocks : len(data)*(y+row+1)/blocks] {
				counts[row*values+int(v)]++
			}
		}
		return nil
	},
}).Register("gpurun/examples/histogram")

func main() {
	data, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err != nil {
		log.Fatal(err)
	}
	counts, err := histogram(data, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		log.Fatal(err)
	}
	for value, n := range counts {
		if n > 0 {
			fmt.Printf("%3d %q %d\n", value, byte(value), n)
		}
	}
}

func histogram(data []byte, config *gpurun.Config) (counts [values]int, err error) {
	if len(data) == 0 {
		return counts, nil
	}
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return counts, err
	}
	defer eng.Close()
	all := make([]uint32, blocks*values)
	err = eng.Run(ctx, counting, gpurun.Size(values, blocks), gpurun.Whole("data", data), gpurun.Value("n", int64(len(data))), gpurun.Out("counts", all))
	for i, n := range all {
		counts[i%values] += int(n)
	}
	return counts, err
}

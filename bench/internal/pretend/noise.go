package pretend

import (
	"math/rand/v2"

	"github.com/gpurun/gpurun/kernels"
)

// Noise is what results and messages consist of whose meaning does not matter.
// No compression makes it smaller; zeros could be cheaper than what people send.
var Noise = func() []byte {
	words := make([]uint32, 4<<20)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range words {
		words[i] = source.Uint32()
	}
	return kernels.Bytes(words)
}()

package opencl

import "github.com/gpurun/gpurun/kernels"

// Custom returns the program of a user's kernel. Nothing is contracted, as in all programs
// here: fma is what fuses. rounds says that the device can round division and square root of
// float32 correctly, which no other program here has.
func Custom(job *kernels.Custom, rounds bool) Program {
	p := Program{Source: customHead + job.Source, Options: standard, Entry: job.Entry}
	if rounds {
		p.Options += " -cl-fp32-correctly-rounded-divide-sqrt"
	}
	return p
}

// customHead comes before the user's source, and has it begin in line 1.
const customHead = "#pragma OPENCL FP_CONTRACT OFF\n#line 1\n"

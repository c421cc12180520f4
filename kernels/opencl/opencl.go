// Package opencl holds the OpenCL C kernels and how to launch them. Each
// kernel is a file that stands alone, or two of which the second goes on from
// the first, so that compilers and checkers can read it; it is embedded.
package opencl

// Program is one kernel with the options that it is built with.
type Program struct {
	Source  string // OpenCL C 1.2
	Options string // for clBuildProgram
	Entry   string // the kernel function
	Group   int    // work-items a work-group, fixed in the source
}

// standard is what all programs are built with. Without -w some drivers write to stderr how
// many warnings there were, such as that vectors are wider than the processor's.
const standard = "-cl-std=CL1.2 -w"

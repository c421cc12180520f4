// Package cpu computes the kernels on the CPU: in SIMD assembly where the
// processor has it, and in plain Go everywhere. All variants give the same
// bits.
package cpu

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Variant names one implementation of the kernels.
type Variant string

// The variants, fastest first.
const (
	// AVX512 needs AVX-512 F.
	AVX512 Variant = "avx512"
	// AVX2 needs AVX2 and FMA3.
	AVX2 Variant = "avx2"
	// Generic is plain Go and runs on every processor.
	Generic Variant = "generic"
)

// all lists the variants, fastest first.
var all = []Variant{AVX512, AVX2, Generic}

// ErrVariant is wrapped by the error of Check.
var ErrVariant = errors.New("no such variant on this processor")

// Variants returns the variants that this processor can run, fastest first.
// The last is always Generic.
//
// The environment variable GPURUN_CPU limits them to those no faster than the
// one it names: GPURUN_CPU=avx2 leaves AVX2 and Generic. A name that Check
// refuses has no effect.
func Variants() []Variant {
	out, _ := limit(runnable(), os.Getenv("GPURUN_CPU"))
	return out
}

// Best returns the fastest variant: Variants()[0].
func Best() Variant { return Variants()[0] }

// Check returns an error that wraps ErrVariant if GPURUN_CPU is set to
// something other than the name of a variant that this processor can run.
func Check() error {
	_, err := limit(runnable(), os.Getenv("GPURUN_CPU"))
	return err
}

// runnable returns what this processor can run, fastest first.
func runnable() []Variant {
	return slices.DeleteFunc(slices.Clone(all), func(v Variant) bool { return !v.runs() })
}

// runs reports whether this processor can run v.
func (v Variant) runs() bool { return v == Generic || v.supported() }

// limit returns the tail of variants that starts with name, or all of them and
// an error if name is not among them. An empty name is no limit.
func limit(variants []Variant, name string) ([]Variant, error) {
	if name == "" {
		return variants, nil
	}
	if i := slices.Index(variants, Variant(name)); i >= 0 {
		return variants[i:], nil
	}
	names := make([]string, len(variants))
	for i, v := range variants {
		names[i] = string(v)
	}
	return variants, fmt.Errorf("GPURUN_CPU=%s: %w: use %s, or unset it", name, ErrVariant, strings.Join(names, ", "))
}

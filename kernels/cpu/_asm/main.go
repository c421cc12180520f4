// Command asmgen writes the assembly of package cpu and the Go declarations of
// its functions.
//
//	go run . DIR
//
// DIR is the folder to write to. It reads ../lanes.go and ../gemm_layout.go, so it
// must be run in its own folder.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("asmgen: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . DIR")
	}
	if err := generate(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

// generate writes every file of the package that is not written by hand.
func generate(dir string) error {
	layout, err := readLayout("../lanes.go", "../gemm_layout.go")
	if err != nil {
		return err
	}
	mandelbrot, gemm := build.NewContext(), build.NewContext()
	pause(gemm)
	for _, isa := range []isa{avx512, avx2} {
		for _, t := range []element{f64, f32} {
			k := newKernel(mandelbrot, layout, isa, t)
			k.start()
			k.step()
			k.run()
			k.cycle()
			if isa == avx512 {
				k.first()
				k.exchange()
				k.admit()
			}
			newGemm(gemm, layout, isa, t).all()
		}
	}
	k := newKernel(mandelbrot, layout, avx512, untyped)
	k.unfinished()
	k.settle()
	if err := write(gemm, filepath.Join(dir, "gemm_amd64.s"), filepath.Join(dir, "gemm_stubs_amd64.go")); err != nil {
		return err
	}
	return write(mandelbrot, filepath.Join(dir, "mandelbrot_amd64.s"), filepath.Join(dir, "mandelbrot_stubs_amd64.go"))
}

// write assembles what c holds and prints it.
func write(c *build.Context, assembly, stubs string) error {
	f, err := c.Result()
	if err != nil {
		build.LogError(log.Default(), err, 0)
		return errors.New("invalid instructions")
	}
	if err := pass.Compile.Execute(f); err != nil {
		return err
	}
	cfg := printer.Config{Name: "asmgen", Pkg: "cpu"}
	if err := print(printer.NewGoAsm(cfg), f, assembly); err != nil {
		return err
	}
	return print(printer.NewStubs(cfg), f, stubs)
}

func print(p printer.Printer, f *ir.File, name string) error {
	text, err := p.Print(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, text, 0o666)
}

package main

import (
	"testing"

	"github.com/gpurun/gpurun"
)

func TestCompare(t *testing.T) {
	eng, err := gpurun.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	compare(eng, 60)
	a, b := random(20, 3), random(20, 4)
	for _, op := range operations {
		if err := op.do(a, b); err != nil {
			t.Errorf("%s: %v", op.name, err)
		}
	}
}

package cpu

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestLimit(t *testing.T) {
	tests := []struct {
		variants []Variant
		name     string
		want     []Variant
		ok       bool
	}{
		{all, "", all, true},
		{all, "avx512", all, true},
		{all, "avx2", []Variant{AVX2, Generic}, true},
		{all, "generic", []Variant{Generic}, true},
		{all, "AVX2", all, false},
		{all, "neon", all, false},
		{[]Variant{Generic}, "avx512", []Variant{Generic}, false},
		{[]Variant{Generic}, "generic", []Variant{Generic}, true},
	}
	for _, test := range tests {
		got, err := limit(test.variants, test.name)
		if !slices.Equal(got, test.want) || (err == nil) != test.ok {
			t.Errorf("limit(%v, %q) = %v, %v; want %v, ok %v", test.variants, test.name, got, err, test.want, test.ok)
		}
		if err != nil && !errors.Is(err, ErrVariant) {
			t.Errorf("limit(%v, %q): %v does not wrap ErrVariant", test.variants, test.name, err)
		}
	}
}

func TestVariants(t *testing.T) {
	t.Setenv("GPURUN_CPU", "")
	unlimited := Variants()
	if last := unlimited[len(unlimited)-1]; last != Generic {
		t.Errorf("the last variant is %s", last)
	}
	if Best() != unlimited[0] {
		t.Errorf("best %s, want %s", Best(), unlimited[0])
	}
	if err := Check(); err != nil {
		t.Error(err)
	}

	t.Setenv("GPURUN_CPU", "generic")
	if got := Variants(); !slices.Equal(got, []Variant{Generic}) {
		t.Errorf("GPURUN_CPU=generic leaves %v", got)
	}
	if err := Check(); err != nil {
		t.Error(err)
	}

	t.Setenv("GPURUN_CPU", "mmx")
	if got := Variants(); !slices.Equal(got, unlimited) {
		t.Errorf("GPURUN_CPU=mmx leaves %v", got)
	}
	err := Check()
	if !errors.Is(err, ErrVariant) {
		t.Fatalf("GPURUN_CPU=mmx: %v", err)
	}
	for _, hint := range []string{"GPURUN_CPU", "mmx", "generic", "unset"} {
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%q does not mention %s", err, hint)
		}
	}
}

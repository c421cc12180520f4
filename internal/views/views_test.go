package views

import (
	"testing"

	"github.com/gpurun/gpurun"
)

// TestViews: every view can be computed and is found by its name alone.
func TestViews(t *testing.T) {
	found, err := Named(Names())
	if err != nil || len(found) != len(All) {
		t.Fatalf("%d views are found by their names: %v", len(found), err)
	}
	for i, v := range All {
		if found[i] != v {
			t.Errorf("by the name %q %v is found", v.Name, found[i])
		}
		view := gpurun.View{
			Center: complex(v.Re, v.Im), Span: v.Span, Width: v.Width, Height: v.Height,
			MaxIter: v.MaxIter, EscapeRadius: EscapeRadius, Precision: gpurun.Float32,
		}
		if err := view.Validate(); err != nil || !view.Resolvable() {
			t.Errorf("%s: resolvable %v, %v", v.Name, view.Resolvable(), err)
		}
	}
	if _, err := Named([]string{"full", "fishing"}); err == nil {
		t.Error("there is a view that nobody named")
	}
}

package main

import (
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

func TestDraw(t *testing.T) {
	name := filepath.Join(t.TempDir(), "seahorse.png")
	if err := draw(name); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	config, err := png.DecodeConfig(f)
	if err != nil || config.Width != 1200 || config.Height != 800 {
		t.Errorf("the picture is %+v (%v)", config, err)
	}
}

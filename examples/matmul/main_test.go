package main

import "testing"

func TestMultiply(t *testing.T) {
	if err := multiply(101); err != nil {
		t.Fatal(err)
	}
}

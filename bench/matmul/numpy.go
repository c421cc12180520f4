package main

import (
	_ "embed"
	"fmt"
	"os/exec"
	"strings"
)

// numpyScript is a contestant's process in Python. It keeps to what serve does.
//
//go:embed numpy.py
var numpyScript string

// numpyCommand returns the command that runs the first Python that has NumPy.
func numpyCommand() (*exec.Cmd, error) {
	pythons := []string{"python3", "python", "/usr/bin/python3"}
	for _, python := range pythons {
		if exec.Command(python, "-c", "import numpy").Run() == nil {
			return exec.Command(python, "-u", "-c", numpyScript), nil
		}
	}
	return nil, fmt.Errorf("NumPy is %w: neither %s has it", errMissing, strings.Join(pythons, " nor "))
}

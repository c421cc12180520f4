//go:build !linux

package output

import (
	"errors"
	"os"
)

// createUnnamed fails: files have names.
func createUnnamed(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func nameIt(*os.File, string) error { return errors.ErrUnsupported }

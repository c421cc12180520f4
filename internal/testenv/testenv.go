// Package testenv tells tests what the machine that they run on must have.
package testenv

import (
	"os"
	"strings"
	"testing"
)

// Missing ends a test whose device or tool, called name, is not there: it fails
// if the environment variable GPURUN_REQUIRE, a list of names separated by
// commas, has name, and otherwise is skipped.
func Missing(t testing.TB, name, why string) {
	t.Helper()
	for _, required := range strings.Split(os.Getenv("GPURUN_REQUIRE"), ",") {
		if strings.TrimSpace(required) == name {
			t.Fatalf("GPURUN_REQUIRE names %s, but %s", name, why)
		}
	}
	t.Skip(why)
}

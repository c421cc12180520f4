// Package version says which gpurun this process has.
package version

import "runtime/debug"

const module = "github.com/gpurun/gpurun"

// release is the version that an archive is named for; the linker sets it.
var release string

// String returns the release's version, or the module's, or the commit of a build from a checkout, or
// "(devel)" where neither was recorded.
func String() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	if info.Main.Path != module {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
		return "(devel)"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "(devel)"
}

//go:build !windows

package main

import "github.com/ebitengine/purego"

func openLibrary(name string) (uintptr, error) { return purego.Dlopen(name, purego.RTLD_NOW) }

func symbol(library uintptr, name string) (uintptr, error) { return purego.Dlsym(library, name) }

package kernels

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrSource is matched by the error about OpenCL C of which the parameters of a kernel cannot
// be told.
var ErrSource = errors.New("not a kernel that can be called")

// Parameter is a parameter of a kernel in OpenCL C.
type Parameter struct {
	Name string
	Type DType // of what it points to, or of the number; none for a pointer to local memory

	Pointer bool
	Local   bool // it points to local memory
	Const   bool // what it points to is not written
	Line    int  // where it is in the source, from 1
}

// Wants says what p is, and what has to be given for it.
func (p Parameter) Wants() string {
	switch {
	case p.Local:
		return p.Name + " points to local memory: give it some"
	case p.Pointer:
		return p.Name + " points to elements: give it an array"
	}
	return p.Name + " is a number: give it one"
}

// Signature returns the parameters of the kernel called entry in source, and the name of the
// kernel: where entry is empty, the only one that there is. It reads the text as it is
// written: macros are not known to it. The error matches ErrSource.
func Signature(source, entry string) (name string, params []Parameter, err error) {
	text := blank(source)
	var found []string
	at := -1
	for _, m := range kernelHead.FindAllStringSubmatchIndex(text, -1) {
		kernel := text[m[2]:m[3]]
		found = append(found, kernel)
		if entry == "" || kernel == entry {
			name, at = kernel, m[1]
		}
	}
	switch {
	case len(found) == 0:
		return "", nil, fmt.Errorf("%w: the source has no function declared as 'kernel void name(…)'", ErrSource)
	case at < 0:
		return "", nil, fmt.Errorf("%w: the source has no kernel %s: it has %s", ErrSource, entry, strings.Join(found, ", "))
	case entry == "" && len(found) > 1:
		return "", nil, fmt.Errorf("%w: the source has the kernels %s: say which is meant", ErrSource, strings.Join(found, ", "))
	}
	end := closing(text, at)
	if end < 0 {
		return "", nil, fmt.Errorf("%w: line %d: the parameters of %s do not end", ErrSource, lineOf(text, at), name)
	}
	if list := strings.TrimSpace(text[at:end]); list == "" || list == "void" {
		return name, nil, nil
	}
	for _, part := range parts(text, at, end) {
		p, err := parameter(text[part[0]:part[1]])
		if p.Line = lineOf(text, part[1]); err != nil {
			return "", nil, fmt.Errorf("%w: line %d: parameter %q of %s %w", ErrSource, p.Line, strings.TrimSpace(text[part[0]:part[1]]), name, err)
		}
		params = append(params, p)
	}
	return name, params, nil
}

// kernelHead finds the declaration of a kernel up to its parameters, with the attributes that
// may be among it.
var kernelHead = regexp.MustCompile(`\b(?:__)?kernel\s+(?:__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)\s*)*void\s+(?:__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)\s*)*(\w+)\s*\(`)

// attribute finds one in a parameter.
var attribute = regexp.MustCompile(`__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)`)

// blank returns source with spaces in the place of comments and of what strings say, so that all else stays where it is.
func blank(source string) string {
	text := []byte(source)
	for i := 0; i+1 < len(text); i++ {
		end := -1
		switch {
		case text[i] == '/' && text[i+1] == '/':
			if end = strings.IndexByte(source[i:], '\n'); end < 0 {
				end = len(text) - i
			}
		case text[i] == '/' && text[i+1] == '*':
			if end = strings.Index(source[i+2:], "*/"); end < 0 {
				end = len(text) - i
			} else {
				end += len("/**/")
			}
		case text[i] == '"':
			for i++; i < len(text) && text[i] != '"' && text[i] != '\n'; i++ {
				if text[i] == '\\' && i+1 < len(text) && text[i+1] != '\n' {
					text[i] = ' '
					i++
				}
				text[i] = ' '
			}
		}
		if end < 0 {
			continue
		}
		for ; end > 0; end-- {
			if text[i] != '\n' {
				text[i] = ' '
			}
			i++
		}
		i-- // the next may begin here
	}
	return string(text)
}

// closing returns where the parenthesis ends that has begun before from, or −1.
func closing(text string, from int) int {
	depth := 1
	for i := from; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// parts returns where the parts of a list lie, which commas outside of parentheses separate.
func parts(text string, from, end int) (all [][2]int) {
	depth, start := 0, from
	for i := from; i < end; i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				all, start = append(all, [2]int{start, i}), i+1
			}
		}
	}
	return append(all, [2]int{start, end})
}

func lineOf(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

// types are the names of the element types in OpenCL C, other than those of DType.OpenCL.
var types = map[string]DType{
	"unsigned char": Uint8, "unsigned short": Uint16, "unsigned int": Uint32, "unsigned": Uint32, "unsigned long": Uint64,
	"signed char": Int8, "short int": Int16, "signed int": Int32, "signed": Int32, "long int": Int64,
	"int8_t": Int8, "int16_t": Int16, "int32_t": Int32, "int64_t": Int64,
	"uint8_t": Uint8, "uint16_t": Uint16, "uint32_t": Uint32, "uint64_t": Uint64,
}

// TypeNamed returns the element type that OpenCL C calls name.
func TypeNamed(name string) (d DType, ok bool) {
	for d := Float32; d.Valid(); d++ {
		if d.OpenCL() == name {
			return d, true
		}
	}
	d, ok = types[name]
	return d, ok
}

// parameter parses one parameter.
func parameter(text string) (p Parameter, err error) {
	text = attribute.ReplaceAllString(text, " ")
	stars := strings.Count(text, "*")
	words := strings.Fields(strings.ReplaceAll(text, "*", " * "))
	if stars > 1 || slices.ContainsFunc(words, func(w string) bool { return strings.ContainsAny(w, "[](){}<>&=;#\"") }) {
		return p, errors.New("is neither a number nor a pointer to numbers: declare it so")
	}
	p.Pointer = stars == 1
	global, before := false, true
	var names, called []string
	for _, w := range words {
		switch strings.TrimPrefix(w, "__") {
		case "global":
			global = true
		case "constant":
			global, p.Const = true, true
		case "local":
			p.Local = true
		case "const":
			p.Const = p.Const || before
		case "private", "restrict", "volatile", "read_only", "write_only", "read_write":
		case "*":
			before = false
		default:
			if before {
				names = append(names, w)
			} else {
				called = append(called, w)
			}
		}
	}
	if !p.Pointer && len(names) > 1 {
		names, called = names[:len(names)-1], names[len(names)-1:]
	}
	switch {
	case len(called) != 1 || len(names) == 0:
		return p, errors.New("has no name, or no type: give it both")
	case p.Pointer && !global && !p.Local:
		return p, errors.New("points nowhere: declare it global, constant or local")
	}
	p.Name = called[0]
	typ := strings.Join(names, " ")
	var ok bool
	if p.Type, ok = TypeNamed(typ); ok {
		return p, nil
	}
	if p.Local {
		return p, nil // its size is in bytes
	}
	return p, fmt.Errorf("is of type %s: the types that arrays and numbers can have are %s", typ, typeNames())
}

// typeNames lists the element types as OpenCL C calls them.
func typeNames() string {
	var names []string
	for d := Float32; d.Valid(); d++ {
		names = append(names, d.OpenCL())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

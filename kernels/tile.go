package kernels

import "fmt"

// Tile is a rectangle of a job's output: the elements whose column is in
// [X, X+W) and whose row is in [Y, Y+H).
type Tile struct {
	X, Y, W, H int
}

// Area returns the number of elements of t.
func (t Tile) Area() int { return t.W * t.H }

// Empty reports whether t holds no element.
func (t Tile) Empty() bool { return t.W <= 0 || t.H <= 0 }

// Contains reports whether every element of u is in t.
func (t Tile) Contains(u Tile) bool {
	// In such a way that no u makes it overflow.
	return u.Empty() || u.X >= t.X && u.Y >= t.Y && u.W <= t.W && u.H <= t.H &&
		u.X-t.X <= t.W-u.W && u.Y-t.Y <= t.H-u.H
}

// Intersect returns the elements that are in t and in u: no tile in particular if there
// are none, but an empty one.
func (t Tile) Intersect(u Tile) Tile {
	x, y := max(t.X, u.X), max(t.Y, u.Y)
	return Tile{X: x, Y: y, W: min(t.X+t.W, u.X+u.W) - x, H: min(t.Y+t.H, u.Y+u.H) - y}
}

// SplitX returns the first w columns of t and the rest.
func (t Tile) SplitX(w int) (left, right Tile) {
	return Tile{t.X, t.Y, w, t.H}, Tile{t.X + w, t.Y, t.W - w, t.H}
}

// SplitY returns the first h rows of t and the rest.
func (t Tile) SplitY(h int) (top, bottom Tile) {
	return Tile{t.X, t.Y, t.W, h}, Tile{t.X, t.Y + h, t.W, t.H - h}
}

// String returns t as W×H+X+Y.
func (t Tile) String() string { return fmt.Sprintf("%d×%d+%d+%d", t.W, t.H, t.X, t.Y) }

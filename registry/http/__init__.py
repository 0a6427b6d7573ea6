"""HTTP's toolkit: what a path names, bodies taken in, content sent."""

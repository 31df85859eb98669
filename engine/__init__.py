"""The vocabulary, the loop and the seams. This package imports neither torch, cma nor SQLite."""

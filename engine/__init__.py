"""The vocabulary, the loop, the seams. Imports neither torch, cma nor SQLite."""

"""Runs from beginning to end: planned, begun, gone on with, and scored again later."""

"""Calibrations made of calibrations: sums, finer spaces, and what differs between two."""

"""Comparing contenders on one knob space: several searchers, several seeds, equal images.

design.py reads what is to be compared, running.py does it, results.py reads what came of it from the store,
statistics.py says what it means, page.py shows it.
"""

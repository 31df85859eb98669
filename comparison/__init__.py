"""Comparing contenders on one knob space: several searchers, several seeds, equal images.

design.py reads and checks a comparison, running.py does its runs, results.py reads their results from the store,
gains.py and summary.py compute the statistics, page.py shows them.
"""

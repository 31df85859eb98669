"""Rewards served to other processes: one server (`reward_server`), and scripts that serve rewards with it.

A reward whose libraries cannot be installed beside trimpot runs in an environment of its own and is asked over
HTTP by the objective `remote`. `trimpot serve` serves any objective; the scripts in this folder carry their
dependencies in their first lines (PEP 723), so that `uv run servers/vila.py` makes the environment and serves.
"""

"""Rewards served to other processes: one server (`reward_server`), and scripts that serve rewards with it.

A reward whose libraries conflict with trimpot's runs in an environment of its own, and the objective `remote` asks it
over HTTP. `trimpot serve` serves any objective. The scripts in this folder list their dependencies in their first lines
(PEP 723), so that `uv run servers/vila.py` creates the environment and starts the server.
"""

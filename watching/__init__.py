"""A live page of all runs of a folder, which reads the store and writes nothing."""

from .site import watch_server

__all__ = ["watch_server"]

"""Workshops of several workers: processes of this machine, or Ray's actors on any machines."""

from __future__ import annotations

from .hiring import Hired, hired

__all__ = ["Hired", "hired"]

"""Workshops with several workers: processes on this machine, or Ray actors on any machines."""

from __future__ import annotations

from .hiring import Hired, hired
from .processes import refuse_while_imported

__all__ = ["Hired", "hired", "refuse_while_imported"]

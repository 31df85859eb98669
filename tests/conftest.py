"""Hypothesis without a clock, since the machines that test are not all quick; one thread a process."""

from __future__ import annotations

import os

import hypothesis

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in two processes, and so do those that they start

hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.load_profile("calm")

"""Hypothesis without a clock: the machines that test are not all quick."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.load_profile("calm")

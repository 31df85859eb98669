"""The contracts that every backbone and every reward keeps, inherited, and the one thing special to these."""

from __future__ import annotations

import numpy as np
import pytest
from trimpot.testing import AdapterContract, ObjectiveContract
from trimpot_loudspeaker.chords import chords, sound
from trimpot_loudspeaker.fidelity import Fidelity
from trimpot_loudspeaker.loudspeaker import Loudspeaker


class TestLoudspeaker(AdapterContract):
    prompts = ("A4 major", "C2 minor", "G3 augmented")

    @pytest.fixture
    def adapter(self):
        return Loudspeaker(hiss=0.05)


class TestFidelity(ObjectiveContract):
    @pytest.fixture
    def objective(self):
        return Fidelity()

    @pytest.fixture
    def examples(self):
        samples = sound("A4 major")
        return [(samples, "A4 major"), (samples / 2, "A4 major"), (samples, "C2 minor")]

    def test_the_chord_itself_is_perfect(self, objective):
        assert objective.score([sound("A4 major")], ["A4 major"]) == pytest.approx([1.0])


def test_every_chord_can_be_played():
    prompts = chords()
    for chord in prompts.train + prompts.validation + prompts.test:
        assert np.abs(sound(chord)).max() > 0

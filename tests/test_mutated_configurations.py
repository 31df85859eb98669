"""Whatever is in a configuration file or typed after it: a run, or one sentence."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from mutated_configurations import WHOLE, mutated_configurations
from trimpot.ground.errors import TrimpotError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins


def outcome(path: Path, content: bytes, typed: list[str]) -> str:
    """The sentence with which it is refused, or nothing if a run can be made of it."""
    path.write_bytes(content)
    try:
        run = assemble("", load_config(path, typed), plugins())
    except TrimpotError as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 4000, (typed, str(error)[:300])
        return str(error)
    assert load_config(run.config.model_dump(mode="json")) == run.config
    return ""


def test_the_configuration_that_is_mutated_can_be_run(tmp_path: Path) -> None:
    assert outcome(tmp_path / "my.yaml", WHOLE.encode(), []) == ""


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_configuration_is_a_run_or_one_sentence(tmp_path: Path, seed: int) -> None:
    told = [outcome(tmp_path / "my.yaml", *each) for each in islice(mutated_configurations(seed), 100)]
    assert 5 <= told.count("") < 60
    assert len({sentence[-30:] for sentence in told}) > 20


def test_mutations_are_the_same_for_a_seed() -> None:
    first, again, other = (list(islice(mutated_configurations(seed), 50)) for seed in (1, 1, 2))
    assert first == again != other

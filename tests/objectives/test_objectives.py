"""The rewards that ship keep the contract that every reward keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trimpot.engine.seams import Objective
from trimpot.objectives.shapes.drawing import draw, to_bytes
from trimpot.objectives.shapes.scenes import parse
from trimpot.setup.plugins import Plugins
from trimpot.testing import ObjectiveContract


class TestShapesReward(ObjectiveContract):
    """The checker of the embedded world."""

    @pytest.fixture
    def objective(self) -> Objective:
        made = Plugins().make("objectives", "shapes", {})
        assert isinstance(made, Objective)
        return made

    @pytest.fixture
    def examples(self) -> list[tuple[Any, str]]:
        prompts = ("a red circle", "a blue square", "two green triangles")
        pictures = [to_bytes(draw(parse(prompt), np.random.default_rng(0))) for prompt in prompts]
        return [*zip(pictures, prompts, strict=True), (pictures[0], prompts[1])]


def test_the_prompts_that_ship_are_disjoint_and_can_all_be_parsed() -> None:
    prompts = Plugins().make("prompts", "shapes", {})
    for stage in ("train", "validation", "test"):
        assert len(getattr(prompts, stage)) >= 48
        for prompt in getattr(prompts, stage):
            parse(prompt)


def test_every_reward_that_ships_says_what_it_reads() -> None:
    """So that one that cannot score what a backbone makes is refused before the run begins."""
    import ast
    from pathlib import Path

    import trimpot.objectives

    home = Path(trimpot.objectives.__file__).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in home.rglob("*.py")]
    classes = [each for tree in trees for each in tree.body if isinstance(each, ast.ClassDef)]
    rewards = [each for each in classes if "Objective" in map(ast.unparse, each.bases)]
    silent = [each.name for each in rewards if not any("reads" in ast.unparse(line)[:6] for line in each.body)]
    assert len(rewards) > 15 and silent == ["Remote"]  # a server may score anything

"""What prompt files say of their prompts reaches every objective, once, before it scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closed_form import SMALL, hill_plugin
from numpy.typing import NDArray
from prompt_lists import write
from trimpot.engine.hooks import hookimpl
from trimpot.engine.seams import Objective
from trimpot.ground.errors import ScoreError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import Plugins

ABOUT = {f"view {number}": {"worth": number} for number in range(30)}


class Told(Objective):
    """Remembers what it was told, and when."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.heard = fault, list[Any]()

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        self.heard.append(metadata)
        if self.fault is not None:
            raise self.fault

    def score(self, outputs: Sequence[Any], prompts: Sequence[str]) -> NDArray[np.float64]:
        self.heard.append("score")
        return np.array(outputs)


def plugins(objective: Objective, watched: Objective) -> Plugins:
    class Plugin:
        @hookimpl
        def register_objectives(self, register: Any) -> None:
            register("told", lambda: objective)
            register("watched", lambda: watched)

    known = Plugins()
    known.add(hill_plugin(), name="hill-plugin", origin="tests")
    known.add(Plugin(), name="told-plugin", origin="tests")
    return known


def config(folder: Path) -> dict[str, Any]:
    rows = list(ABOUT.items())
    files = {
        name: str(write(folder, "jsonl", rows[start : start + 10], name))
        for name, start in (("train", 0), ("validation", 10), ("test", 20))
    }
    objectives = {"told": {}, "watched": {"weight": 0}}
    return {**SMALL, "objectives": objectives, "prompts": {"name": "files", "column": "prompt", **files}}


def test_every_objective_is_told_once_and_before_it_scores(tmp_path: Path) -> None:
    objectives = Told(), Told()
    known = plugins(*objectives)
    run = assemble("", load_config(config(tmp_path)), known)
    again = assemble("", load_config(config(tmp_path)), known, sharing=run)
    assert [each.heard for each in objectives] == [[ABOUT]] * 2
    assert again.prompts.metadata == ABOUT


def test_an_objective_that_cannot_use_it_is_one_sentence_before_the_run_begins(tmp_path: Path) -> None:
    known = plugins(Told(KeyError("worth")), Told())
    with pytest.raises(ScoreError, match="objective 'told' failed on the metadata of the prompts: KeyError: 'worth'"):
        assemble("", load_config(config(tmp_path)), known)
    known = plugins(Told(), Told(ScoreError("its own sentence")))
    with pytest.raises(ScoreError, match=r"^its own sentence$"):
        assemble("", load_config(config(tmp_path)), known)


def test_an_evaluation_is_known_by_the_metadata_of_an_objective_that_takes_them(tmp_path: Path) -> None:
    """Or scores that were given to other metadata would be found in the store."""
    asked = config(tmp_path)
    known = plugins(Told(), Told())

    def runs(**prompts: Any) -> Any:
        return assemble("", load_config({**asked, "prompts": {**asked["prompts"], **prompts}}), known)

    with_metadata, again, without = runs(), runs(), runs(metadata=[])
    assert with_metadata.context == again.context != without.context
    assert with_metadata.identity == again.identity != without.identity
    heedless = load_config({**asked, "objectives": {"height": {}}})
    blind = load_config({**asked, "objectives": {"height": {}}, "prompts": {**asked["prompts"], "metadata": []}})
    assert assemble("", heedless, known).context == assemble("", blind, known).context

"""Studies of small pictures, and raters whose preferences are known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from trimpot.storage import RaterRow, SqliteStore
from trimpot.studies.beginning import asked_for, begin, with_raters
from trimpot.studies.design import SAME, Check, Design, Item, drawn_checks, expected
from trimpot.studies.rating import Rating

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</p><img src=x onerror=\"document.title = 'taken'\">",
    "{{constructor}} ${7*7} `x` \u202egnp.exe",
    "=HYPERLINK(1)",
    "שלום עולם",
    "word" * 200,
)


def picture(n: int, size: tuple[int, int] = (24, 24)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(n).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def folders(where: Path, number: int = 20, names: Sequence[str] = ("calibrated", "neutral")) -> list[str]:
    """Folders of pictures of the same names, with their prompts in the first; the first prompts are hostile."""
    for at, name in enumerate(names):
        (where / name).mkdir(parents=True)
        for n in range(number):
            picture(1000 * at + n).save(where / name / f"{n}.png")
    prompts = [*HOSTILE, *(f"prompt {n}" for n in range(number))][:number]
    rows = [json.dumps({"file": f"{n}.png", "prompt": prompt}) for n, prompt in enumerate(prompts)]
    (where / names[0] / "prompts.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [str(where / name) for name in names]


def begun(where: Path, number: int = 20, raters: int = 3, names: Sequence[str] = ("a", "b"), **asked: Any) -> str:
    """A study of two folders in the store `where / "store"`; returns its name."""
    with SqliteStore(where / "store") as store:
        study = begin(store, asked_for(store, folders(where, number, names), **asked))
        with_raters(store, study, raters)
    return study


def design(items: int = 30, pairs: int = 20, entrants: int = 2, checks: int = 4, seed: int = 0) -> Design:
    """A study of pictures that do not exist."""
    labels = tuple("abcdef"[:entrants])
    shown = [
        Check(each.kind, each.item, each.entrant, "noise.png") for each in drawn_checks(entrants, items, checks, 0)
    ]
    files = tuple(tuple(f"{label}/{n}.png" for n in range(items)) for label in labels)
    return Design(labels, tuple(Item(f"prompt {n}", n, "") for n in range(items)), files, tuple(shown), pairs, seed)


def taste(seed: int, wins: float = 0.55, ties: float = 0.1) -> Callable[[Mapping[str, Any], str], str]:
    """A rater who passes the checks, prefers the first set with a known probability, and sees no side."""
    generator = random.Random(seed)

    def answer(shown: Mapping[str, Any], question: str) -> str:
        known, luck = expected(shown), generator.random()
        if known is not None:
            return known
        if luck < ties:
            return SAME
        first_is_left = shown["left"] < shown["right"]
        return "left" if (luck < ties + wins) == first_is_left else "right"

    return answer


def rate(rating: Rating, rater: RaterRow, answer: Callable[[Mapping[str, Any], str], str], most: int = 10**6) -> None:
    """Answer a rater's questions in order."""
    state = rating.state(rater)
    for _ in range(most):
        if state["finished"]:
            return
        said = answer(rater.plan[state["position"]], state["question"])
        sent = {name: state[name] for name in ("position", "question", "key")}
        reply = rating.answer(rater, {**sent, "answer": said, "seconds": 1.5})
        assert reply.status == 200 and reply.content["stored"]
        state = reply.content

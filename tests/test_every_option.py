"""Every key and every option of every plugin, with every kind of value: used, or refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from trimpot.engine.knobs import Knob, KnobSpace
from trimpot.engine.schema import AdaptiveBucket, Section, Sensitivity, WatchedPrompts
from trimpot.engine.vetting import HeldOptimizer
from trimpot.ground.errors import TrimpotError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import Config, load_config
from trimpot.setup.plugins import KINDS, plugins

VALUES: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "large": 1e308,
    "small": 1e-320,
    "minus zero": -0.0,
    "half": 0.5,
    "minus one": -1,
    "zero": 0,
    "one": 1,
    "two": 2,
    "beyond 63 bits": 2**63,
    "beyond any float": 10**400,
    "empty text": "",
    "text": "text",
    "a word": "no",
    "code 0": "\0",
    "a number in text": "1e-3",
    "infinity in text": "inf",
    "null": None,
    "true": True,
    "list": [],
    "list of numbers": [1, 2],
    "list of all": [1, "a", None, math.nan],
    "mapping": {},
    "mapping of a number": {"a": 1},
    "nested": {"a": {"b": [math.inf]}},
}
BASE: dict[str, Any] = {
    "adapter": {"name": "sphere", "num_knobs": 3},
    "objectives": "value",
    "prompts": "numbers",
    "optimizer": {"name": "cma-es"},
    "bucket_size": 2,
    "generations": 2,
}
SPACE = KnobSpace([Knob(f"knob.{index}") for index in range(4)])
#: What can be made for real without weights, a network or another program.
CHEAP = {
    "adapters": ("sphere", "ellipsoid", "low-effective-dimension", "simulated", "simulated-bounded", "surrogate"),
    "objectives": ("value", "jpeg-size", "shapes", "shapes-diversity", "entropy"),
    "combinations": ("weighted", "winrate", "pareto", "constrained"),
    "optimizers": ("cma-es", "grouped", "random", "nevergrad:DE"),
    "prompts": ("numbers", "files", "geneval", "compositional", "addition", "capitals", "prose"),
}
#: What else an option needs beside it.
BESIDE: dict[str, dict[str, Any]] = {"constrained": {"floors": {"value": 0.0}}}


def keys(model: type[BaseModel] = Config) -> Iterator[tuple[str, ...]]:
    """Every key at every depth, sections themselves too."""
    optional = {"adaptive_bucket": AdaptiveBucket, "sensitivity": Sensitivity}
    for name, field in model.model_fields.items():
        yield (name,)
        inner = optional.get(name, field.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from ((name, *rest) for rest in keys(inner))
    if model is Config:
        yield from [("adapter", "name"), ("objectives", "value"), ("objectives", "value", "weight")]
        yield from [("objectives", "value", "name"), ("prompts", "name"), ("optimizer", "name"), ("combine", "name")]
        yield from [("watch", "cities"), *(("watch", "cities", key) for key in WatchedPrompts.model_fields)]
        yield from [("watch", "cities", "objectives", "value"), ("watch", "cities", "objectives", "value", "name")]


def with_value(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The configuration with one value exchanged."""
    watched = {"watch": {"cities": {"prompts": "compositional"}}} if path[0] == "watch" else {}
    values: dict[str, Any] = {**BASE, **watched}
    section = values
    for part in path[:-1]:
        inner = section.get(part)
        section[part] = {inner: {}} if part == "objectives" else {"name": inner} if isinstance(inner, str) else {}
        section[part] |= inner if isinstance(inner, dict) else {}
        section = section[part]
    section[path[-1]] = value
    return values


def is_a_sentence(error: TrimpotError) -> bool:
    return "\n" not in str(error) and 10 < len(str(error)) < 2000


@pytest.mark.parametrize("path", list(keys()), ids=".".join)
def test_a_key_with_any_value_is_used_or_refused(path: tuple[str, ...]) -> None:
    """As far as the first generation: whatever is accepted can be asked for candidates."""
    for name, value in VALUES.items():
        try:
            config = load_config(with_value(path, value))
            assert config.fingerprint == load_config(config.model_dump(mode="json")).fingerprint
            assert assemble("", config, plugins()).identity
        except TrimpotError as error:
            assert is_a_sentence(error), f"{'.'.join(path)} {name}: {error}"


OPTIONS = [
    pytest.param(kind, each.name, option.name, id=f"{each.name}.{option.name}")
    for kind in KINDS
    for each in plugins().registrations(kind)
    for option in each.options
]


@pytest.mark.parametrize(("kind", "name", "option"), OPTIONS)
def test_an_option_with_any_value_is_read_or_refused(kind: str, name: str, option: str) -> None:
    """Numbers that cannot be calculated with never reach a factory, and what is refused is told in a sentence."""
    for label, value in VALUES.items():
        read, mistakes = plugins().get(kind, name).options.read({option: value}, "it")
        about = [mistake for mistake in mistakes if "needs the option" not in mistake or option in mistake]
        assert (option in read) != bool(about), f"{label}: {mistakes}"
        assert all("\n" not in mistake and len(mistake) < 500 for mistake in mistakes), label
        assert label not in ("nan", "infinity", "minus infinity", "large", "beyond any float") or about


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(kind, name, id=f"{kind}-{name}") for kind in CHEAP for name in CHEAP[kind]]
)
def test_what_is_made_with_any_option_works_or_is_refused(kind: str, name: str) -> None:
    """Made for real; an optimizer then searches for two generations."""
    positional = {"combinations": [{"value": 1.0}], "optimizers": [SPACE]}.get(kind, [])
    given = {"start": SPACE.defaults, "seed": 0} if kind == "optimizers" else {}
    cases = [{option: value} for option in plugins().options(kind, name) for value in VALUES.values()]
    worked = 0
    for changed in [{}, *cases]:
        try:
            options = {**BESIDE.get(name, {}), **changed}
            made = plugins().make(kind, name, options, *positional, **given)
            if kind == "optimizers":
                held = HeldOptimizer(made, SPACE, name)
                for _ in range(2):
                    population = held.ask()
                    held.tell(population, -np.square(population).sum(axis=1))
                assert np.isfinite(held.recommend()).all()
            worked += 1
        except TrimpotError as error:
            assert is_a_sentence(error), f"{changed}: {error}"
    assert worked or name in ("surrogate", "files"), "nothing of it can be made"


def test_how_many_cases_are_walked() -> None:
    """So that a walk that finds nothing to walk is noticed."""
    assert len(list(keys())) >= 50
    assert len(OPTIONS) >= 280
    assert (len(list(keys())) + len(OPTIONS)) * len(VALUES) >= 9_000


def test_keys_that_have_sensible_values_here_are_used() -> None:
    """Not everything is refused: each of these takes some of the values."""
    taken = {path for path in keys() for value in VALUES.values() if value is not None and _is_used(path, value)}
    named = {("adapter",), ("objectives",), ("combine",), ("prompts",), ("protocol",), ("start",), ("keep",)}
    named |= {path for path in keys() if path[-1] == "name" and len(path) > 1}
    named |= {("group_size",), ("budget", "images")}  # too small for a generation
    named |= {("workers", "address")}  # of a cluster that nobody asks for
    named |= {("watch", *rest) for rest in (["cities"], ["cities", "prompts"], ["cities", "objectives", "value"])}
    named |= {("sensitivity", "measured")}  # effects by knob, which an ablation's file holds
    assert set(keys()) - taken == named - {("objectives", "value", "name")}


def _is_used(path: tuple[str, ...], value: Any) -> bool:
    try:
        return assemble("", load_config(with_value(path, value)), plugins()) is not None
    except TrimpotError:
        return False

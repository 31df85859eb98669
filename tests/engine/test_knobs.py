"""Knobs: settings and vectors are two views of one thing, bit for bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.engine.knobs import Knob, KnobSpace, digest, digest_of_many
from trimpot.ground.errors import ConfigError

finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@given(st.data())
def test_setting_vector_and_json_are_the_same_numbers(data: st.DataObject) -> None:
    space = KnobSpace([Knob(name) for name in data.draw(names)])
    setting = {name: data.draw(finite) for name in space.names}
    vector = space.to_vector(setting)
    for back in (space.to_setting(vector), json.loads(json.dumps(space.to_setting(vector)))):
        assert [(name, value.hex()) for name, value in back.items()] == [
            (name, value.hex()) for name, value in setting.items()
        ]
    assert space.to_vector(space.to_setting(vector)).tobytes() == vector.tobytes()


@given(st.lists(finite, max_size=6))
def test_digests_tell_numbers_apart_bit_by_bit(values: list[float]) -> None:
    assert digest(values) == digest(json.loads(json.dumps(values)))
    if values:
        assert digest([*values[:-1], math.nextafter(values[-1], 0.5)]) != digest(values) or values[-1] == 0.5


@given(st.lists(st.lists(finite, max_size=3) | st.text() | st.none(), max_size=4))
def test_a_digest_of_many_is_that_of_their_list(values: list[object]) -> None:
    assert digest_of_many(iter(values)) == digest(values)


def test_a_digest_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError):
        digest([math.nan])


def test_knobs_that_a_setting_leaves_out_stand_at_their_default() -> None:
    space = KnobSpace([Knob("a"), Knob("b", default=0.0)])
    assert space.to_vector({"a": 0.5}).tolist() == [0.5, 0.0]


def test_an_unknown_knob_is_named_with_its_near_miss() -> None:
    with pytest.raises(ConfigError, match=r"no knob 'block\.1'.*did you mean 'block\.01'"):
        KnobSpace([Knob("block.01"), Knob("weight")]).to_vector({"block.1": 1.0})


def test_a_vector_of_the_wrong_length_is_no_point() -> None:
    with pytest.raises(ConfigError, match=r"\(3,\).*2 knobs"):
        KnobSpace([Knob("a"), Knob("b")]).to_setting(np.zeros(3))


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ({"low": 1.5}, r"bounds \[1\.5, 2\] exclude its default 1"),
        ({"low": 3.0}, "low 3 must lie below high 2"),
        ({"low": math.nan}, "low must be finite"),
        ({"default": math.nan}, "default must be finite"),
        ({"spread": 0.0}, "spread must lie between 1e-30"),
        ({"spread": math.inf}, "spread must be finite"),
    ],
)
def test_a_knob_that_contradicts_itself_says_how(knob: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"knob 'a'.*{said}"):
        Knob("a", **knob)


def test_two_knobs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 knobs are named 'a'"):
        KnobSpace([Knob("a"), Knob("b"), Knob("a")])


def test_a_space_without_knobs_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one knob"):
        KnobSpace([])


def test_fingerprints_change_with_everything_about_a_knob() -> None:
    spaces = [
        [Knob("a"), Knob("b")],
        [Knob("b"), Knob("a")],
        [Knob("a"), Knob("b", low=0)],
        [Knob("a"), Knob("b", high=3)],
        [Knob("a"), Knob("b", default=0.5)],
        [Knob("a"), Knob("b", spread=2)],
    ]
    assert len({KnobSpace(knobs).fingerprint for knobs in spaces}) == len(spaces)
    assert KnobSpace(spaces[0]).fingerprint == KnobSpace(list(spaces[0])).fingerprint


def test_a_knob_of_which_only_the_name_is_said_is_a_scale() -> None:
    """Neutral at 1, from the opposite sign to twice, and sampled as widely as its own unit."""
    assert Knob("scale") == Knob("scale", low=-1.0, high=2.0, default=1.0, spread=1.0)

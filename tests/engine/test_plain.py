"""Values that enter from outside: finite numbers in range, descriptions that JSON can hold."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimpot.ground.errors import CalibrationError, ScoreError, TrimpotError
from trimpot.ground.plain import number, plain, real_numbers

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.builds(Path, st.just("a/b")),
    st.floats(width=32).map(np.float32), st.integers(-(2**31), 2**31).map(np.int64), st.sets(st.integers()),
    st.lists(st.floats()).map(np.array),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner))
)


@given(VALUES)
def test_what_describes_becomes_json_that_reads_back_equal(value):
    described = plain(value, "it")
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_equal_sets_and_equal_numbers_of_other_types_are_described_alike():
    assert plain({"b", "a", "c"}, "it") == plain({"c", "b", "a"}, "it") == ["a", "b", "c"]
    assert plain(np.float64(0.1), "it") == 0.1 and plain(np.int8(3), "it") == 3
    assert plain(-math.inf, "it") == "-Infinity"


@pytest.mark.parametrize("value", [object(), b"bytes", 1j, {"a": print}, {None: 1}, [{1: {2: {3}}}, lambda: 0]])
def test_what_json_cannot_hold_is_refused_by_the_name_of_who_gave_it(value):
    with pytest.raises(TrimpotError, match="my reward"):
        plain(value, "my reward")


def test_a_value_that_holds_itself_is_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(CalibrationError, match="holds itself"):
        plain(endless, "the file", CalibrationError)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, 10**400, "1", None, True, 1j, [1.0]])
def test_no_number_that_cannot_be_calculated_with_passes(value):
    with pytest.raises(CalibrationError, match="gain"):
        number(value, "gain", error=CalibrationError)


def test_a_number_of_thousands_of_digits_is_refused_without_being_printed():
    with pytest.raises(CalibrationError, match="cannot be shown"):
        number(10**5000, "gain", error=CalibrationError)


def test_a_number_in_range_passes_as_a_float():
    assert number(np.float32(0.5), "strength", low=-1, high=2) == 0.5
    with pytest.raises(TrimpotError, match="strength must lie between -1 and 2, not be 3"):
        number(3, "strength", low=-1, high=2)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([1 + 2j, 3]), "complex"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "masked"),
        ([1.0], "shape"),
        ([[1.0], [2.0]], "shape"),
        (["1", "2"], "real numbers"),
        ([None, 1.0], "real numbers"),
    ],
)
def test_no_part_of_a_score_is_dropped_in_silence(values, why):
    with pytest.raises(ScoreError, match=why):
        real_numbers(values, 2, "what it returned", ScoreError)

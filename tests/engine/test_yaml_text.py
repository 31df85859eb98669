"""YAML is read so that nothing in it is taken for something else, and what is refused is one sentence with its line."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from trimpot.ground.errors import ConfigError
from trimpot.setup.yaml_text import lines_of, read_yaml


def aliases(first: str, again: str, depth: int = 12) -> str:
    """Aliases of aliases: nine to the power of `depth` values in a few lines."""
    lines = [f"k0: &k0 {first}"]
    lines += [f"k{n}: &k{n} {again.format(', '.join([f'*k{n - 1}'] * 9))}" for n in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("Off", "Off"),
        ("1e-3", 0.001),
        ("1.5E3", 1500.0),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o10", 8),
        ("-.inf", -math.inf),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("'010'", "010"),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("\ufeff7", 7),
        ("{a: &x {b: 1}, c: {<<: *x, b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("[" * 30 + "]" * 30, None),
    ],
)
def test_a_value_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = read_yaml(text, "it")
    if not text.startswith("["):
        assert found == value
        assert type(found) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(read_yaml(".nan", "it"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is already in line 1"),
        ("b:\n  c: 1\n  c: 2", "line 3: the key 'c' is already in line 2"),
        ("a: 1\na: 2\na: 3\nb: 010", r"3 mistakes: \(1\) line 2: .* \(2\) line 3: .* \(3\) line 4: 010 may be read"),
        ("1: 2", "line 1: the key 1 is no text"),
        ("a: {null: 2}", "line 1: the key null is no text"),
        ("true: 2", "line 1: the key true is no text"),
        ("? [a]\n: 1", "line 1: the key a list or mapping is no text"),
        ("a: 010", "line 1: 010 may be read as octal; write it without its first 0"),
        ("a:\n\tb: 1", "line 2: it is indented with a tab; use spaces"),
        ("a: 1\n---\nb: 2", "line 2 begins a second document"),
        ("a: !!python/object/apply:os.system [true]", "line 1 has the tag '!!python/object/apply:os.system'"),
        ("a: !mine 1", "line 1 has the tag '!mine'"),
        ("a: !!binary aGk=", "line 1 has the tag '!!binary'"),
        ("a: !!int x", "holds a value that cannot be read"),
        ("a: &a [*a]", "line 1 holds itself"),
        ("a: *b", "line 1: found undefined alias"),
        (aliases("[x, x]", "[{}]"), "values with all that its aliases repeat"),
        (aliases("{x: 1}", "{{<<: [{}]}}"), "values with all that its aliases repeat"),
        ("[" * 1_000_000, "line 1 is nested more than 32 deep"),
        ("{a: " * 1_000 + "}" * 1_000, "line 1 is nested more than 32 deep"),
        ("a: " + "9" * 5_000, "line 1: a number of 5,000 digits"),
        ("a: 0x" + "f" * 5_000, "line 1: a number of 5,002 digits"),
        ("a: 1" + "0" * 500 + ".0", "line 1: a number of 503 digits"),
        ("a: \x00", "special characters are not allowed"),
        (r'a: "\uD800"', "line 1: a text holds half of a character"),
        ("a: [1", "line 1: expected"),
        ("a: b: c", "line 1: mapping values are not allowed here"),
        ("a: 'b", "line 1: found unexpected end of stream"),
        ("%YAML 9.9\n---\na: 1", "incompatible YAML document"),
        ("a: <<", "could not determine a constructor"),
        ("x" * 1_000_001, "has 1,000,001 characters"),
    ],
)
def test_what_could_mean_two_things_is_one_sentence_with_its_line(text: str, said: str) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError, match=said) as caught:
        read_yaml(text, "mine.yaml")
    assert time.process_time() - begun < 60, "it takes no time that grows with what the text could mean"
    assert str(caught.value).startswith("mine.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_pyyaml_itself_would_have_taken_them() -> None:
    """Why this is not left to `yaml.safe_load`: it keeps the last of two keys, and knows other numbers."""
    assert yaml.safe_load("a: 1\na: 2") == {"a": 2}
    assert yaml.safe_load("[010, 12:30, 1e-3, no]") == [8, 750, "1e-3", False]


def test_the_line_of_every_key_and_item_is_known() -> None:
    text = "a: 1\n# more\nb:\n  - x\n  - c: &c\n      d: 1\n      e: 2\nf:\n  <<: *c\n  e: 3\ng: *c\n"
    places = {
        ("a",): 1, ("b",): 3, ("b", "0"): 4, ("b", "1"): 5, ("b", "1", "c"): 5, ("b", "1", "c", "d"): 6,
        ("b", "1", "c", "e"): 7, ("f",): 8, ("f", "d"): 6, ("f", "e"): 10, ("g",): 11, ("g", "d"): 6, ("g", "e"): 7,
    }  # fmt: skip
    assert lines_of(text) == places
    assert lines_of("") == {}

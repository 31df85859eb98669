"""Every mistake of a configuration is told at once, each with the line in which it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from trimpot.engine import schema
from trimpot.ground.errors import ConfigError, TrimpotError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins


def test_every_mistake_is_told_and_counted(tmp_path: Path) -> None:
    """Unknown keys, wrong values, unknown names and options, all at once."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "adapter: {name: spher, num_knobs: 5}\nobjectives: value\nprompts: numbers\ngeneration: 3\nbucket_size: many\n"
        "optimizer: {name: random, sigma: 1, population_size: 1}\nvalidation: {num_prompts: 1, evry: 2}\n"
    )
    with pytest.raises(ConfigError, match=r"mine\.yaml has 7 mistakes: \(1\) .*\(7\) ") as caught:
        load_config(path)
    said = str(caught.value)
    assert "\n" not in said
    for mistake in (
        "unknown key 'generation'; did you mean 'generations'?",
        "'bucket_size': should be a whole number",
        "'validation.num_prompts': should be at least 2, not 1",
        "unknown key 'validation.evry'; did you mean 'every'?",
        "no adapter 'spher'; did you mean 'sphere'?",
        "optimizer 'random' takes no option 'sigma'; did you mean 'sigma0'?",
        "optimizer 'random': option 'population_size': should be at least 2, not 1",
    ):
        assert mistake in said
    lines = [int(line) for line in re.findall(r"\(\d\) line (\d):", said)]
    assert sorted(lines) == [1, 4, 5, 6, 6, 7, 7]


SCATTERED = """\
adapter: sphere
objectives:
  value: {weight: heavy}
prompts: numbers
generation: 3
validation:
  num_prompts: 1

  evry: 2
test: {num_prompts: 1}
name: [1]
"""


def test_every_mistake_of_a_key_says_its_line(tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text(SCATTERED)
    with pytest.raises(ConfigError, match="has 6 mistakes") as caught:
        load_config(path)
    lines = {"value": 3, "'generation'": 5, "validation.num_prompts": 7, "evry": 9, "test.num_prompts": 10, "name": 11}
    for key, line in lines.items():
        assert re.search(rf"\(\d\) line {line}: [^;]*{re.escape(key)}", str(caught.value)), key


def test_what_was_typed_has_no_line(tmp_path: Path) -> None:
    """It is not the file's mistake, even where the file has the key."""
    (path := tmp_path / "mine.yaml").write_text(SCATTERED.replace("generation: 3", "seed: 1"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["seed=-1", "validation.num_prompts=0", "bucket_siz=3"])
    said = str(caught.value)
    for key in ("'seed'", "'validation.num_prompts'", "unknown key 'bucket_siz'"):
        assert re.search(rf"\(\d\) {key}", said), said
    assert "line 9: unknown key 'validation.evry'" in said


def test_a_single_mistake_says_file_and_line_and_a_missing_key_that_of_its_mapping(tmp_path: Path) -> None:
    (path := tmp_path / "mine.yaml").write_text(
        "# of mine\nadapter: sphere\nobjectives: value\nprompts: numbers\nseed: -1\n"
    )
    with pytest.raises(ConfigError, match=r"mine\.yaml: line 5: 'seed': "):
        load_config(path)
    path.write_text("\nadapter: {nam: sphere}\nobjectives: value\n")
    with pytest.raises(ConfigError, match=r"line 2: key 'adapter\.name' is missing"):
        load_config(path)


def test_mistakes_in_parts_alone_are_all_told_too() -> None:
    """Where every key is right, before anything is made."""
    config = load_config(
        {
            "objectives": "value",
            "prompts": "numbers",
            "adapter": {"name": "sphere", "noise": -1},
            "optimizer": {"sigma0": "wide"},
        }
    )
    with pytest.raises(ConfigError, match=r"the configuration has 2 mistakes: \(1\) .*'noise'.*\(2\) .*'sigma0'"):
        assemble("", config, plugins())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adapter: sphere\nadapter: shapes\n", "line 2: the key 'adapter' is already in line 1"),
        ("prompts: numbers\nvalidation:\n  seed: 1\n  seed: 2\n", "line 4: the key 'seed' is already in line 3"),
        ("seed: 010\n", "line 1: 010 may be read as octal"),
        ("adapter: sphere\n---\nadapter: shapes\n", "begins a second document"),
        ("adapter: !!python/name:os.system\n", "has the tag"),
    ],
)
def test_a_file_in_which_a_mistake_could_hide_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


SECTIONS = {
    "": schema.Config,
    "validation.": schema.Validation,
    "test.": schema.Test,
    "by_steps.": schema.BySteps,
    "adaptive_bucket.": schema.AdaptiveBucket,
    "sensitivity.": schema.Sensitivity,
    "budget.": schema.Budget,
    "workers.": schema.Workers,
}
KEYS = [section + name for section, model in SECTIONS.items() for name in model.model_fields]


@pytest.mark.parametrize("key", KEYS)
def test_what_is_wrong_with_a_value_is_said_in_plain_words(key: str) -> None:
    """Of every key: not a word of the library that checks it, whatever kind of value is given."""
    refused = 0
    for value in ("many", "a/b", "", -1.5, [], [[1]], {}, {"a": {"b": 1}}, True):
        try:
            load_config({"adapter": "sphere", "objectives": "value", "prompts": "numbers"}, {key: value})
        except TrimpotError as error:
            refused += 1
            library = "Input|Dictionary|Tuple|String|List |valid |required|permitted|parse|instance|interpret"
            assert not re.search(library, str(error)), error
    assert refused

"""Configurations: known keys only, and one sentence for whatever cannot be run as written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trimpot
from closed_form import SMALL, hill_run
from trimpot.engine.config import load_config, parse_options, presets, protocols
from trimpot.engine.errors import ConfigError, ModelError, TrimpotError


def test_every_preset_that_ships_can_be_read() -> None:
    assert "shapes" in presets()
    for preset in presets():
        assert load_config(preset).generations >= 1


def test_a_protocol_goes_before_the_preset_and_after_the_command_line(tmp_path: Path) -> None:
    """`protocol=published` on the command line replaces what a preset searches with; single keys still win."""
    preset, named = load_config("shapes"), load_config("shapes", ["protocol=published", "bucket_size=4"])
    assert (preset.optimizer.options["sigma0"], named.optimizer.options["sigma0"]) == (0.1, 0.25)
    assert named.optimizer.options["average"] is False
    assert (preset.bucket_size, named.bucket_size) == (12, 4)
    path = tmp_path / "mine.yaml"
    path.write_text("protocol: published\nadapter: hill\nobjectives: height\nprompts: views\nbucket_size: 5\n")
    mine = load_config(path)
    assert (mine.bucket_size, mine.optimizer.options["average"]) == (5, False)
    assert load_config(mine.model_dump(mode="json")) == mine


def test_without_a_search_of_its_own_a_configuration_gets_the_default_protocol(tmp_path: Path) -> None:
    bare = {"adapter": "shapes", "objectives": "shapes", "prompts": "shapes"}
    default = load_config(bare)
    assert (default.protocol, default.optimizer.name, default.bucket_size) == ("grouped-cma", "cma-es", 1)
    assert default.group_size == 8 and default.optimizer.options["mirrored"]
    assert load_config(default.model_dump(mode="json")) == default
    for key, value in (("optimizer", "cma-es"), ("optimizer", {"sigma0": 0.25}), ("group_size", 4)):
        config = load_config({**bare, key: value})
        assert (config.protocol, config.optimizer.name, config.bucket_size) == (None, "cma-es", 16)
        assert load_config(bare, [f"{key}={value}"]) == config
    assert load_config(bare, ["protocol=published"]) == load_config({**bare, "protocol": "published"})


def test_every_protocol_sets_the_same_keys_so_that_none_leaves_traces_of_another() -> None:
    import yaml

    folder = Path(trimpot.__file__).parent / "presets" / "protocols"
    keys = {name: set(yaml.safe_load((folder / f"{name}.yaml").read_text())) for name in protocols()}
    assert len(keys) >= 3
    assert len(set(map(frozenset, keys.values()))) == 1


def test_an_unknown_protocol_is_named_with_its_near_miss() -> None:
    with pytest.raises(ConfigError, match="no protocol 'publishd'; did you mean 'published'"):
        load_config("shapes", ["protocol=publishd"])


def test_short_forms_mean_the_long_ones() -> None:
    long = {
        **SMALL,
        "adapter": {"name": "hill"},
        "objectives": {"height": {"weight": 1.0}},
        "prompts": {"name": "views"},
        "optimizer": {"name": "cma-es"},
    }
    assert load_config(long) == load_config(SMALL)
    assert load_config({**SMALL, "objectives": {"height": None}}) == load_config(SMALL)


@pytest.mark.parametrize(
    ("change", "key", "near"),
    [
        ({"generation": 3}, "generation", "generations"),
        ({"validation": {"num_prompt": 3}}, "validation.num_prompt", "num_prompts"),
        ({"test": {"seeds": 3}}, "test.seeds", "seed"),
        ({"by_steps": {"step": [3]}}, "by_steps.step", "steps"),
    ],
)
def test_an_unknown_key_is_named_with_its_near_miss(change: dict[str, Any], key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'; did you mean '{near}'") as caught:
        load_config({**SMALL, **change})
    _is_one_sentence(caught.value)


@pytest.mark.parametrize("key", ["adapter", "objectives", "prompts"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"key '{key}' is missing"):
        load_config({name: value for name, value in SMALL.items() if name != key})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generations": "many"}, "'generations': .*integer.*not 'many'"),
        ({"generations": 0}, "'generations': .*greater than or equal to 1.*not 0"),
        ({"bucket_size": 1.5}, "'bucket_size': .*not 1.5"),
        ({"seed": -1}, "'seed': .*not -1"),
        ({"validation": 5}, "'validation': .*not 5"),
        ({"adapter": {"granularity": "gate"}}, "'adapter.name' is missing"),
        ({"adapter": 7}, "'adapter': .*not 7"),
        ({"objectives": {}}, "'objectives': .*at least 1"),
        ({"objectives": {"height": {"weight": "heavy"}}}, "'objectives.height.weight': .*not 'heavy'"),
        ({"objectives": {"height": {"weight": float("nan")}}}, "'objectives.height.weight': .*finite"),
        ({"by_steps": {"steps": [4, 0]}}, r"'by_steps.steps.1': .*not 0"),
        ({"name": "../elsewhere"}, "'name': .*not '../elsewhere'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_said_in_one_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_config({**SMALL, **change})
    _is_one_sentence(caught.value)


def test_objectives_that_are_only_watched_leave_nothing_to_optimize() -> None:
    with pytest.raises(ConfigError, match="every objective has weight 0"):
        load_config({**SMALL, "objectives": {"height": {"weight": 0}}})


def test_steps_for_a_backbone_without_steps_are_refused_before_the_search() -> None:
    with pytest.raises((ConfigError, ModelError), match=r"by_steps\.steps") as caught:
        hill_run({"by_steps": {"steps": [8]}})
    _is_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("generations=7", lambda config: config.generations == 7),
        ("optimizer.sigma0=0.1", lambda config: config.optimizer.options == {"sigma0": 0.1}),
        ("optimizer=random", lambda config: config.optimizer.name == "random"),
        ("adapter.granularity=gate", lambda config: config.adapter.options == {"granularity": "gate"}),
        ("objectives.height.weight=2", lambda config: config.weights == {"height": 2.0}),
        ("validation.every=9", lambda config: (config.validation.every, config.validation.num_prompts) == (9, 4)),
        ("by_steps.steps=[8, 16]", lambda config: config.by_steps.steps == (8, 16)),
        ("name=night", lambda config: config.name == "night"),
    ],
)
def test_a_dotted_override_changes_one_key(override: str, read: Any) -> None:
    assert read(load_config(SMALL, [override]))


def test_an_override_leaves_the_caller_s_mapping_alone() -> None:
    before = repr(SMALL)
    load_config(SMALL, ["validation.every=9", "adapter.granularity=gate"])
    assert repr(SMALL) == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("generations", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("generations.fast=3", "'generations' is a single value and has no key 'fast'"),
        ("generations=[1", "not a YAML value"),
        ("optimiser.sigma0=0.1", "unknown key 'optimiser'; did you mean 'optimizer'"),
        ("validation.evry=3", "unknown key 'validation.evry'; did you mean 'every'"),
    ],
)
def test_an_override_that_cannot_be_read_is_named(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(SMALL, [override])
    _is_one_sentence(caught.value)


def test_options_are_read_as_yaml() -> None:
    assert parse_options(["a=1", "b.c=[x, 2]"]) == {"a": 1, "b": {"c": ["x", 2]}}


def test_an_unknown_preset_is_named_with_its_near_miss() -> None:
    with pytest.raises(ConfigError, match="no preset or file 'shape'; did you mean 'shapes'"):
        load_config("shape")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"adapter: [", "not valid YAML in line"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"\xff\xfe", "not UTF-8|not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert "mine.yaml" in str(caught.value)
    _is_one_sentence(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*mine\.yaml: No such file"):
        load_config(tmp_path / "mine.yaml")


def test_what_the_store_keeps_is_the_same_configuration() -> None:
    config = load_config("shapes", ["optimizer.diagonal=true"])
    again = load_config(config.model_dump(mode="json"))
    assert again == config
    assert again.fingerprint == config.fingerprint


def test_fingerprints_know_every_key_but_the_name() -> None:
    changes = ["generations=4", "bucket_size=4", "seed=1", "optimizer=random", "adapter=x", "validation.seed=5"]
    changes += ["objectives.height.weight=2", "test.num_prompts=9", "validation.patience=2", "by_steps.num_prompts=9"]
    prints = {load_config(SMALL, [change]).fingerprint for change in changes}
    assert len(prints | {load_config(SMALL).fingerprint}) == len(changes) + 1
    assert load_config(SMALL, ["name=other"]).fingerprint == load_config(SMALL).fingerprint


def _is_one_sentence(error: TrimpotError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 300


def test_prompt_files_lie_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in a file are relative to that file, overrides to where one types, so a run resumes from anywhere."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my.yaml").write_text(
        "adapter: a\nobjectives: b\n"
        "prompts: {name: files, train: t.txt, validation: v.txt, test: /abs/e.txt, column: Prompt}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("project/my.yaml", ["prompts.validation=here.txt"])
    assert config.prompts.options == {
        "train": str(folder / "t.txt"),
        "validation": str(tmp_path / "here.txt"),
        "test": "/abs/e.txt",
        "column": "Prompt",
    }

"""Configurations: known keys only, and one sentence for whatever cannot be run as written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trimpot
from closed_form import SMALL as ON_THE_HILL
from closed_form import hill_run
from trimpot.ground.errors import ConfigError, ModelError, PluginError, TrimpotError
from trimpot.setup.assembly import assemble
from trimpot.setup.config import Config, load_config, parse_options, presets, protocols
from trimpot.setup.plugins import plugins

SMALL = {**ON_THE_HILL, "adapter": "sphere", "objectives": "value", "prompts": "numbers"}


def test_every_preset_that_ships_can_be_read() -> None:
    assert "shapes" in presets()
    for preset in presets():
        assert load_config(preset).generations >= 1


def test_a_protocol_goes_before_the_preset_and_after_the_command_line(tmp_path: Path) -> None:
    """`protocol=published` on the command line replaces what a preset searches with; single keys still win."""
    preset, named = load_config("shapes"), load_config("shapes", ["protocol=published", "bucket_size=4"])
    assert (preset.optimizer.options["sigma0"], named.optimizer.options["sigma0"]) == (0.1, 0.25)
    assert named.optimizer.options["average"] is False
    assert (preset.bucket_size, named.bucket_size) == (1, 4)
    path = tmp_path / "mine.yaml"
    path.write_text("protocol: published\nadapter: hill\nobjectives: height\nprompts: views\nbucket_size: 5\n")
    mine = load_config(path)
    assert (mine.bucket_size, mine.optimizer.options["average"]) == (5, False)
    assert load_config(mine.model_dump(mode="json")) == mine


@pytest.mark.parametrize("protocol", protocols())
def test_an_optimizer_without_a_name_is_the_protocols_own_with_other_options(protocol: str) -> None:
    """In a file and on the command line alike; an optimizer with a name is that optimizer and nothing more."""
    bare = {"adapter": "shapes", "objectives": "shapes", "prompts": "shapes", "protocol": protocol}
    own = load_config(bare).optimizer
    filed = load_config({**bare, "optimizer": {"sigma0": 0.07}})
    assert (filed.optimizer.name, filed.optimizer.options) == (own.name, {**own.options, "sigma0": 0.07})
    assert load_config(bare, ["optimizer.sigma0=0.07"]) == filed
    named = load_config({**bare, "optimizer": {"name": "cma-es", "sigma0": 0.07}}).optimizer
    assert (named.name, named.options) == ("cma-es", {"sigma0": 0.07})


def test_without_a_search_of_its_own_a_configuration_gets_the_default_protocol() -> None:
    """Another key of the search changes this key alone, never the optimizer behind the user's back."""
    bare = {"adapter": "shapes", "objectives": "shapes", "prompts": "shapes"}
    default = load_config(bare)
    assert (default.protocol, default.optimizer.name, default.bucket_size) == ("grouped", "grouped", 1)
    assert default.group_size is None and default.optimizer.options == {"sigma0": 0.1}
    assert load_config(default.model_dump(mode="json")) == default
    for key, value in (("optimizer", {"sigma0": 0.25}), ("bucket_size", 4), ("adaptive_bucket", None)):
        config = load_config({**bare, key: value})
        assert load_config(bare, [f"{key}={'null' if value is None else value}"]) == config
        assert config == load_config({**bare, "protocol": "grouped", key: value})
    for named in ("cma-es", {"name": "cma-es", "sigma0": 0.25}):
        config = load_config({**bare, "optimizer": named})
        assert (config.protocol, config.optimizer.name, config.bucket_size) == (None, "cma-es", 16)
        assert load_config(bare, [f"optimizer={named}"]) == config
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
        "adapter": {"name": "sphere"},
        "objectives": {"value": {"weight": 1.0}},
        "prompts": {"name": "numbers"},
        "optimizer": {"name": "cma-es"},
    }
    assert load_config(long) == load_config(SMALL)
    assert load_config({**SMALL, "objectives": {"value": None}}) == load_config(SMALL)


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
        ({"generations": "many"}, "'generations': should be a whole number, not 'many'"),
        ({"generations": -1}, "'generations': .*at least 0.*not -1"),
        ({"generations": 0}, "generations: 0 measures .*start"),
        ({"bucket_size": 1.5}, "'bucket_size': .*not 1.5"),
        ({"seed": -1}, "'seed': .*not -1"),
        ({"validation": 5}, "'validation': .*not 5"),
        ({"adapter": {"granularity": "gate"}}, "'adapter.name' is missing"),
        ({"adapter": 7}, "'adapter': .*not 7"),
        ({"objectives": {}}, "'objectives': should have 1 or more entries"),
        ({"objectives": {"value": {"weight": "heavy"}}}, "'objectives.value.weight': .*not 'heavy'"),
        ({"objectives": {"value": {"weight": float("nan")}}}, "'objectives.value.weight': .*finite"),
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
        load_config({**SMALL, "objectives": {"value": {"weight": 0}}})


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
        ("adapter.world=3", lambda config: config.adapter.options == {"world": 3}),
        ("objectives.value.weight=2", lambda config: config.weights == {"value": 2.0}),
        ("validation.every=9", lambda config: (config.validation.every, config.validation.num_prompts) == (9, 4)),
        ("by_steps.steps=[8, 16]", lambda config: config.by_steps.steps == (8, 16)),
        ("name=night", lambda config: config.name == "night"),
    ],
)
def test_a_dotted_override_changes_one_key(override: str, read: Any) -> None:
    assert read(load_config(SMALL, [override]))


def test_an_override_leaves_the_caller_s_mapping_alone() -> None:
    before = repr(SMALL)
    load_config(SMALL, ["validation.every=9", "adapter.world=3"])
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
    changes += ["objectives.value.weight=2", "test.num_prompts=9", "validation.patience=2", "by_steps.num_prompts=9"]
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


def test_a_key_left_empty_is_left_out() -> None:
    empty = dict.fromkeys(set(Config.model_fields) - {"adapter", "objectives", "prompts", "optimizer"})
    sections = {"validation": {"seed": None}, "budget": {"images": None, "devices": None}}
    assert load_config({**SMALL, **empty, **sections}) == load_config({k: SMALL[k] for k in SMALL if k not in empty})
    with pytest.raises(ConfigError, match="key 'adapter' is missing"):
        load_config({**SMALL, "adapter": None})


def test_a_single_value_stands_for_a_list_of_one() -> None:
    assert load_config(SMALL, ["by_steps.steps=8"]).by_steps.steps == (8,)
    made = plugins().make("adapters", "shapes", {"guidance_grid": 4})
    assert len(made.neutrals()) == 1


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true", "false"])
def test_words_for_truth_values_reach_options_that_are_one(tmp_path: Path, word: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"adapter: {{name: diffusers, model: a/b, vae_tiling: {word}, compile: off}}\nobjectives: value\n"
        f"prompts: numbers\noptimizer: {{name: cma-es, diagonal: {word}}}\n"
    )
    config = load_config(path)
    for kind, part in (("optimizers", config.optimizer), ("adapters", config.adapter)):
        options, mistakes = plugins().get(kind, part.name).options.read(part.options, "it")
        assert not mistakes
        assert options["diagonal" if kind == "optimizers" else "vae_tiling"] is (word in ("yes", "on", "true"))
    assert config.adapter.options["compile"] == "off"


def test_a_word_that_may_be_a_truth_value_is_refused_where_anything_goes() -> None:
    options = {"model": "a/b", "pipeline_options": {"clean_caption": "no"}}
    with pytest.raises(ConfigError, match="'no' may be a word or a truth value; write true or false"):
        plugins().check("adapters", "diffusers", options)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["generations", "=", "4"], "write generations=4 without spaces"),
        (["generations=", "4"], "write generations=4 without spaces"),
        (["generations", "=4"], "write generations=4 without spaces"),
        (["generations="], "has no value; write generations=null"),
        (["generations=4", "generations=5"], "generations is given twice"),
        (["optimizer.sigma0=0.1", "optimizer=random"], "'optimizer=random' undoes 'optimizer.sigma0=0.1'"),
        (["optimizer..sigma0=1"], "is no dotted key"),
        (["adapter.noise=010"], "010 may be read as octal"),
        (["optimizer={name: random, name: cma-es}"], "the key 'name' is already in line 1"),
        (["start.file=3", "generations.a.b=3"], "'generations' is a single value and has no key"),
    ],
)
def test_what_is_typed_is_used_or_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(SMALL, overrides)
    _is_one_sentence(caught.value)


def test_single_keys_go_before_a_protocol_s_in_whatever_order_they_are_typed() -> None:
    keys = ["bucket_size=4", "optimizer.sigma0=0.4"]
    expected = load_config("shapes", ["protocol=published", *keys])
    assert (expected.bucket_size, expected.optimizer.options["sigma0"]) == (4, 0.4)
    assert expected.optimizer.options["average"] is False
    assert load_config("shapes", [*keys, "protocol=published"]) == expected


def test_a_file_that_is_called_like_a_preset_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("shapes").adapter.name == "shapes"
    with pytest.raises(ConfigError, match="No such file; the preset is called 'shapes'"):
        load_config("shapes.yaml")
    (tmp_path / "shapes").write_text("adapter: sphere\nobjectives: value\nprompts: numbers\n")
    with pytest.raises(ConfigError, match=r"'shapes' is a preset and a file here as well; write \./shapes"):
        load_config("shapes")
    assert load_config("./shapes").adapter.name == "sphere"


@pytest.mark.parametrize("name", ["", "\0", "\0.yaml", "x" * 5_000, "x" * 5_000 + ".yaml", ".", "~nobody/a.yaml", "/"])
def test_a_name_that_is_none_is_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {**SMALL, 3: 4},
        {**SMALL, "adapter": {"name": "sphere", "noise": {1, 2}}},
        {**SMALL, "adapter": {"name": "sphere", "noise": object()}},
        {**SMALL, "optimizer": float("nan")},
        {**SMALL, None: 1},
        {**SMALL, "validation": {("a", "b"): 1}},
    ],
    ids=["number as key", "set", "object", "NaN", "None as key", "tuple as key"],
)
def test_a_mapping_from_python_may_hold_anything(values: Any) -> None:
    with pytest.raises((ConfigError, PluginError)) as caught:
        assemble("", load_config(values), plugins())
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    config = load_config({**SMALL, "seed": np.int64(3), "optimizer": {"sigma0": np.float32(0.5)}})
    assert config == load_config({**SMALL, "seed": 3, "optimizer": {"sigma0": 0.5}})


def test_an_optimizer_s_own_groups_and_the_configuration_s_are_not_both_taken() -> None:
    grouped = {**SMALL, "optimizer": "grouped", "bucket_size": 1}
    with pytest.raises(ConfigError, match="group_size 4 cannot be used: optimizer 'grouped' makes groups of 9"):
        assemble("", load_config({**grouped, "group_size": 4}), plugins())
    with pytest.raises(ConfigError, match="'grouped' makes groups of 9 with a bucket each; leave adaptive_bucket"):
        assemble("", load_config({**grouped, "bucket_size": 2, "adaptive_bucket": {}}), plugins())
    assert assemble("", load_config({**grouped, "group_size": 9}), plugins())
    with pytest.raises(ConfigError, match="a population of 16 cannot be split into groups of 5"):
        assemble("", load_config({**SMALL, "group_size": 5}), plugins())


@pytest.mark.parametrize(
    ("given", "key", "found"),
    [
        (2, "workers.ray=4", {"ray": 4, "processes": 1}),
        ("auto", "workers.ray=auto", {"ray": "auto", "processes": 1}),
        (2, "workers.mixed=true", {"processes": 2, "mixed": True}),
        (2, "workers.processes=3", {"processes": 3}),
        (2, "workers=5", {"processes": 5}),
    ],
)
def test_a_number_of_workers_may_be_overridden_in_part(given: object, key: str, found: dict[str, object]) -> None:
    """A preset asks for two processes; whoever asks for Ray's actors does not have to take them back first."""
    values = {**load_config("shapes").model_dump(mode="json", exclude={"workers", "protocol"}), "workers": given}
    workers = load_config(values, [key]).workers
    assert {name: getattr(workers, name) for name in found} == found

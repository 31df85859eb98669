"""Keys that count outputs have two names, a general one and that of images, which mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sphere import SPHERE
from trimpot.analyses.kinds import kind_named
from trimpot.comparison.design import ComparisonConfig, make_design
from trimpot.engine.nouns import ALSO, told_config, told_key
from trimpot.engine.schema import Budget, Config, Section, Validation
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import as_recorded, load_config
from trimpot.setup.overrides import read_overrides
from trimpot.setup.plugins import plugins
from typed import typed

KEYS = {"budget.images": "budget.outputs", "validation.every_images": "validation.every_outputs"}
#: The configuration of a run as stores hold it, written before the general names were known.
STORED = load_config({**SPHERE, "budget": {"images": 900}, "validation": {"num_prompts": 4, "every_images": 40}})
OLD = STORED.model_dump(mode="json")


def asked(key: str, value: Any) -> dict[str, Any]:
    section, name = key.split(".")
    own = SPHERE.get(section, {})
    return {**SPHERE, section: {**own, name: value}}


def refuse(*given: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as refused:
        load_config(*given)
    assert "\n" not in str(refused.value)


def test_every_section_that_counts_images_can_count_outputs() -> None:
    sections = [Budget, Validation, ComparisonConfig]
    sections += [options for kind in ("granularity", "rewards", "steps") if (options := kind_named(kind).Options)]
    counting = {section: [name for name in section.model_fields if name in ALSO] for section in _sections(Section)}
    assert {section for section, names in counting.items() if names} >= set(sections)
    assert not any(ALSO[name] in section.model_fields for section, names in counting.items() for name in names)


def _sections(kind: type[Section]) -> set[type[Section]]:
    return {kind, *(each for below in kind.__subclasses__() for each in _sections(below))}


@pytest.mark.parametrize("key", KEYS)
def test_both_names_make_one_configuration_with_the_identity_that_old_runs_have(key: str) -> None:
    value = 900 if key == "budget.images" else 40
    first, second = load_config(asked(key, value)), load_config(asked(KEYS[key], value))
    typed_first, typed_second = (load_config(SPHERE, [f"{name}={value}"]) for name in (key, KEYS[key]))
    from_python = load_config(SPHERE, {KEYS[key]: value})
    assert first == second == typed_first == typed_second == from_python
    assert first.fingerprint == second.fingerprint != load_config(SPHERE).fingerprint
    section, name = key.split(".")
    assert second.model_dump(mode="json")[section][name] == value
    assert ALSO[name] not in second.model_dump(mode="json")[section]


def test_a_stored_configuration_is_read_as_it_was() -> None:
    assert (OLD["budget"]["images"], OLD["validation"]["every_images"]) == (900, 40)
    assert as_recorded(OLD) == STORED and as_recorded(OLD).model_dump(mode="json") == OLD
    assert STORED.fingerprint == "e682f17a8335f458", "the digest of the version before the general names"
    shown = told_config(OLD, "answers")
    assert shown["budget"]["outputs"] == 900 and "every_images" not in shown["validation"]
    assert load_config(shown) == STORED and told_config(OLD, "images") == OLD


@pytest.mark.parametrize("key", KEYS)
def test_an_override_by_one_name_replaces_the_other_of_the_file(key: str) -> None:
    for written, given in ((key, KEYS[key]), (KEYS[key], key)):
        assert load_config(asked(written, 5), [f"{given}=7"]) == load_config(asked(key, 7))
        assert load_config(asked(written, 5), [f"{given}=null"]) == load_config(SPHERE)


@pytest.mark.parametrize("key", KEYS)
def test_both_names_at_once_are_refused_in_one_sentence(key: str) -> None:
    section, name = key.split(".")
    other = KEYS[key].split(".")[1]
    both = {**SPHERE, section: {**SPHERE.get(section, {}), name: 9, other: 9}}
    refuse(both, match=f"{other} and {name} are two names of one key; leave one of them out")
    refuse(SPHERE, [f"{key}=9", f"{KEYS[key]}=9"], match=f"{key} is given twice: '{key}=9' and '{KEYS[key]}=9'; keep")
    assert load_config({**both, section: {**both[section], name: None}}) == load_config(asked(key, 9))


@pytest.mark.parametrize("name", ["budget.images", "budget.outputs", "validation.every_outputs"])
@pytest.mark.parametrize("value", [0, True, "many", 10**16, -1])
def test_a_mistake_is_told_by_the_name_that_was_written_and_at_its_line(name: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({**asked(name, value)}, sort_keys=False))
    line = next(n for n, text in enumerate(file.read_text().split("\n"), 1) if f" {name.split('.')[1]}:" in text)
    refuse(str(file), match=rf"line {line}: '{name}': .*, not {value!r}")
    refuse(SPHERE, [f"{name}={value}"], match=f"'{name}': ")


def test_a_near_miss_of_either_name_is_told() -> None:
    refuse(SPHERE, ["budget.output=9"], match="did you mean 'outputs'")
    refuse(SPHERE, ["budget.image=9"], match="did you mean 'images'")
    refuse(SPHERE, ["validation.every_output=9"], match="did you mean 'every_outputs'")


def test_a_key_is_told_by_the_name_that_fits_what_is_made() -> None:
    assert [told_key("budget.images", noun) for noun in ("images", "answers", "outputs")] == [
        "budget.images", "budget.outputs", "budget.outputs"
    ]  # fmt: skip
    assert told_key("generations", "answers") == "generations"
    assert [each.key for each in read_overrides(["budget.outputs=9", "adapter.outputs=9"])] == [
        "budget.images", "adapter.outputs"
    ]  # fmt: skip


def test_a_comparison_counts_by_either_name() -> None:
    shared = {"config": SPHERE, "contenders": ["cma-es", "random"], "seeds": 1}
    first, second = make_design({**shared, "images": 60}), make_design({**shared, "outputs": 60})
    assert first == second and first.identity(plugins()) == second.identity(plugins())
    with pytest.raises(ConfigError, match="outputs and images are two names of one key; leave one of them out"):
        make_design({**shared, "images": 60, "outputs": 60})
    with pytest.raises(ConfigError, match="key 'outputs' is missing"):
        make_design(shared)
    ways = [{"validation.every_images": 10}, {"validation.every_outputs": 10}, {"validation": {"every_outputs": 10}}]
    designs = [
        make_design({**shared, "contenders": {"own": {"optimizer": "random", **way}, "cma-es": None}, "images": 60})
        for way in ways
    ]
    assert designs[0].contenders == designs[1].contenders == designs[2].contenders
    assert designs[0].contenders["own"].validation.every_images == 10
    with pytest.raises(ConfigError, match="two names of one key"):
        make_design({**shared, "contenders": {"a": {**ways[0], **ways[1]}, "b": None}, "images": 60})


def test_the_command_takes_either_option_and_not_both() -> None:
    words = ["compare", "shapes", "-c", "cma-es", "-c", "random"]
    said = typed(*words, "--images", "40", "--outputs", "40")
    assert said.status == 1 and "--outputs and --images are two names of one option; leave one of them out" in said.err
    assert "--outputs 4000" in typed(*words).err
    for name in ("--images", "--outputs"):
        assert f"{name} goes with --contender" in typed("compare", "shapes", name, "40").err


def test_a_configuration_object_takes_either_name() -> None:
    assert Config(**SPHERE, budget={"outputs": 9}) == Config(**SPHERE, budget={"images": 9})
    assert Budget(outputs=9) == Budget(images=9)  # type: ignore[call-arg]

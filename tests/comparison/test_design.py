"""What may be compared, how changes are applied, and what is said of mistakes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trimpot
import yaml
from closed_form import hill_plugin
from comparing import SHARED, small
from trimpot.comparison.design import JUDGED_BY, ComparisonConfig, check, make_design, merged, read_design
from trimpot.engine.code import Code
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import load_config, protocols
from trimpot.setup.plugins import Plugins, plugins


@pytest.fixture(scope="module")
def known() -> Plugins:
    found = Plugins()
    found.add(hill_plugin(), name="hill-plugin", origin="tests")
    return found


def test_a_contender_is_an_optimizer_a_protocol_or_changes() -> None:
    design = small(contenders={"r": "random", "p": "published", "n": None, "c": {"bucket_size": 4}}, images=400)
    assert design.contenders["r"].optimizer.name == "random"
    assert design.contenders["n"].optimizer == load_config(SHARED).optimizer
    assert design.contenders["c"].bucket_size == 4
    assert "published" in protocols()
    published = load_config(SHARED, ["protocol=published", "bucket_size=16"])
    assert design.contenders["p"].protocol == "published"
    assert design.contenders["p"].optimizer == published.optimizer
    assert design.contenders["p"].bucket_size == 16


def test_the_default_protocol_is_a_contender_s_who_names_no_other_search(known: Plugins) -> None:
    bare = {key: value for key, value in SHARED.items() if key not in ("optimizer", "bucket_size")}
    contenders = {"d": None, "c": "cma-es", "t": {"optimizer.sigma0": 0.2}, "p": "published", "b": {"bucket_size": 4}}
    design = small(config=bare, contenders=contenders, images=2000)
    expected = {"d": ("grouped", "grouped", 1), "c": (None, "cma-es", 16), "t": ("grouped", "grouped", 1)}
    expected |= {"p": ("published", "cma-es", 16), "b": ("grouped", "grouped", 4)}
    for label, config in design.contenders.items():
        assert (config.protocol, config.optimizer.name, config.bucket_size) == expected[label]
    assert design.contenders["t"].optimizer.options == {"sigma0": 0.2}
    assert make_design(yaml.safe_load(yaml.safe_dump(dict(design.asked)))).identity(known) == design.identity(known)


def test_an_optimizer_that_is_the_protocols_own_belongs_to_no_other_contender() -> None:
    bare = {key: value for key, value in SHARED.items() if key not in ("optimizer", "bucket_size")}
    config = {**bare, "protocol": "grouped-cma", "optimizer": {"population_size": 32}}
    design = small(config=config, contenders={"d": None, "c": "cma-es", "p": "published", "r": "random"}, images=2000)
    own = load_config(config).optimizer
    assert design.contenders["d"].optimizer == own and own.options["population_size"] == 32
    assert design.contenders["c"].optimizer.options == design.contenders["r"].optimizer.options == {}
    assert "population_size" not in design.contenders["p"].optimizer.options


def test_a_protocol_may_be_changed_in_turn() -> None:
    design = small(
        contenders={"p": {"protocol": "published", "optimizer.sigma0": 0.1, "bucket_size": 4}, "r": "random"}
    )
    found = design.contenders["p"]
    assert (found.optimizer.options["sigma0"], found.optimizer.options["average"]) == (0.1, False)
    assert found.bucket_size == 4


def test_options_stay_with_an_optimizer_of_the_same_name_only() -> None:
    values = {"optimizer": {"name": "cma-es", "sigma0": 0.1}, "validation": {"every": 3, "seed": 4}}
    assert merged(values, {"optimizer": {"average": False}})["optimizer"] == {
        "name": "cma-es",
        "sigma0": 0.1,
        "average": False,
    }
    assert merged(values, {"optimizer": "cma-es"})["optimizer"] == values["optimizer"]
    assert merged(values, {"optimizer": "random"})["optimizer"] == {"name": "random"}
    assert merged(values, {"optimizer.sigma0": 0.2})["optimizer"]["sigma0"] == 0.2
    assert merged(values, {"validation": {"every": 5}})["validation"] == {"every": 5, "seed": 4}
    assert merged(values, {"adaptive_bucket": {}})["adaptive_bucket"] == {}
    assert values["optimizer"] == {"name": "cma-es", "sigma0": 0.1}


def test_all_are_judged_alike_and_only_images_end_a_search() -> None:
    design = small(contenders={"a": "random", "b": {"bucket_size": 1, "validation.patience": 3}}, images=600, checks=6)
    first, second = design.contenders.values()
    for key in ("num_prompts", "seed", "every_images"):
        assert getattr(first.validation, key) == getattr(second.validation, key)
    assert (first.test, first.budget, first.keep) == (second.test, second.budget, "none")
    assert (first.validation.every_images, first.budget.images) == (100, 600)
    assert first.validation.patience > 600 and second.validation.patience == 3


def test_what_was_asked_makes_the_same_comparison_again(known: Plugins) -> None:
    design = small(overrides={"bucket_size": 3}, seeds=[4, 9])
    again = make_design(yaml.safe_load(yaml.safe_dump(dict(design.asked))))
    assert again.identity(known) == design.identity(known)
    assert again.seeds == (4, 9)
    assert small(name="other").identity(known) == small().identity(known)
    files = ({**SHARED, "prompts": {"name": "files", "train": f"/{at}/a.txt"}} for at in ("here", "moved"))
    assert len({small(config=each).identity(known) for each in files}) == 1  # what they say counts


def test_a_comparison_that_differs_in_anything_is_another(known: Plugins, tmp_path: Path) -> None:
    """In seeds, images, any option of any part, what a file holds, or a line of a plugin's code."""
    start = tmp_path / "best.json"
    changes: list[dict[str, Any]] = [
        {},
        {"seeds": [4, 9]},
        {"images": 61},
        {"contenders": {"cma-es": {"optimizer.sigma0": 0.1}, "random": "random"}},
        {"contenders": {"cma-es": {"optimizer.sigma0": 0.2}, "random": "random"}},
        {"contenders": {"cma-es": {"start": str(start)}, "random": "random"}},
        {"overrides": {"objectives": {"height": {"weight": 2}}}},
        {"overrides": {"objectives": {"height": {}, "jpeg-size": {"weight": 0}}}},
        {"overrides": {"objectives": {"height": {}, "jpeg-size": {"weight": 0, "direction": "compressible"}}}},
        {"overrides": {"combine": {"name": "constrained", "floors": {"height": 0.0}}}},
        {"overrides": {"combine": {"name": "constrained", "floors": {"height": 1.0}}}},
        {"overrides": {"adapter": {"name": "sphere", "num_knobs": 5}}},
        {"overrides": {"adapter": {"name": "sphere", "num_knobs": 6}}},
    ]
    designs = [small(**each).identity(known) for each in changes]
    for content in ("one", "two"):
        start.write_text(content)
        designs.append(small(contenders={"cma-es": {"start": str(start)}, "random": "random"}).identity(known))
    edited = Plugins()
    edited.add(hill_plugin(), name="hill-plugin", origin="tests")
    registered = edited.get("objectives", "height")
    registered.__dict__["code"] = Code(registered.code.words | {"an edit"}, {})
    designs.append(small().identity(edited))
    assert len(set(designs)) == len(designs)


def test_a_file_s_paths_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**SHARED, "bucket_size": 5}))
    file = tmp_path / "night.yaml"
    asked = {"config": "base.yaml", "contenders": {"a": "random", "b": {"start": "best.json"}}, "images": 60}
    file.write_text(yaml.safe_dump(asked))
    design = read_design(file)
    assert design.name == "night"
    assert design.contenders["a"].bucket_size == 5
    assert design.contenders["b"].start == str(tmp_path / "best.json")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"contenders": {"a": {"test.seed": 3}, "b": {}}},
            "contender 'a' sets 'test.seed', but all contenders must be",
        ),
        ({"contenders": {"a": {"validation": {"seed": 3}}, "b": {}}}, "contender 'a' sets 'validation.seed', but all"),
        ({"contenders": {"a": {"adapter": "other"}, "b": {}}}, "contender 'a' sets 'adapter', but all contenders"),
        ({"contenders": {"a": {"seeds_per_prompt": 2}, "b": {}}}, "contender 'a' sets 'seeds_per_prompt', but all"),
        ({"contenders": {"a": {"generations": 3}, "b": {}}}, "'generations', which the comparison itself sets for all"),
        (
            {"overrides": {"seed": 3}},
            "'overrides' sets 'seed', which the comparison itself sets for all",
        ),
        ({"contenders": {"a": {"bucketsize": 3}, "b": {}}}, "contender 'a': unknown key 'bucketsize'; did you mean"),
        (
            {"contenders": {"a": {"protocol": "publishd"}, "b": {}}},
            "contender 'a': no protocol 'publishd'; did",
        ),
        ({"contenders": {"a": {"bucket_size": -1}, "b": {}}}, "contender 'a': 'bucket_size': should be at least 1"),
        ({"contenders": ["cma-es"]}, "'contenders': should have 2 or more entries"),
        ({"contenders": ["random", "random"]}, "a contender is named twice"),
        ({"seeds": [1, 1]}, "a seed is listed twice in 'seeds'"),
        ({"seeds": 0}, "'seeds'"),
        ({"images": 0}, "'images': should be at least 1, not 0"),
        ({"contender": []}, "unknown key 'contender'; did you mean 'contenders'?"),
        ({"config": "shaps"}, "no preset or file 'shaps'; did you mean 'shapes'?"),
    ],
)
def test_a_mistake_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    known = {**SHARED, "adapter": "sphere", "objectives": "value", "prompts": "numbers"}
    with pytest.raises(ConfigError) as caught:
        small(**{"config": known, **changes})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plain_configuration_is_no_comparison(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(SHARED))
    with pytest.raises(ConfigError, match=r"names no contenders; add --contender NAME"):
        read_design(tmp_path / "plain.yaml")


def test_the_documented_files_are_comparisons() -> None:
    """docs/compare.md shows files that validate, and its first one has every key, with true defaults."""
    text = (Path(trimpot.__file__).parent / "docs" / "compare.md").read_text(encoding="utf-8")
    first, second = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    assert set(first) == set(ComparisonConfig.model_fields)
    assert first["checks"] == ComparisonConfig.model_fields["checks"].default
    for asked in (first, second):
        check(make_design(asked), plugins())
    refused = re.search(r"is refused if it changes (.*?)\. ", text, re.DOTALL)
    assert refused is not None and set(re.findall(r"`([\w.]+)`", refused[1])) == set(JUDGED_BY)

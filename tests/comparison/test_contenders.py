"""Every optimizer and every protocol can be a contender, and gets the search keys that are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from trimpot.commands.compare import _asked
from trimpot.comparison.design import check, make_design
from trimpot.comparison.running import _assembled, _Begun
from trimpot.engine.search import group_size
from trimpot.ground.errors import ConfigError
from trimpot.setup.config import load_config, protocols
from trimpot.setup.plugins import plugins

DEFAULT = {"adapter": "sphere", "objectives": "value", "prompts": "numbers"}
OPTIMIZERS = ("cma-es", "grouped", "random", "nevergrad:DE", "nevergrad:PSO", "nevergrad:TwoPointsDE", "nevergrad:CMA")
CONTENDERS: dict[str, Any] = {name: {"optimizer": name} for name in OPTIMIZERS}
CONTENDERS |= {f"protocol-{name}": {"protocol": name} for name in protocols()}
CONFIGURATIONS: dict[str, Any] = {
    "default": DEFAULT,
    "shapes": "shapes",
    **{f"protocol-{name}": {**DEFAULT, "protocol": name} for name in protocols()},
    "bucket": {**DEFAULT, "bucket_size": 4},
}


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_optimizer_and_protocol_can_be_compared(config: Any) -> None:
    """Designed and assembled, as far as one can be before anything is generated."""
    assert {each.name for each in plugins().registrations("optimizers")} == {n.partition(":")[0] for n in OPTIMIZERS}
    design = make_design({"config": config, "contenders": CONTENDERS, "seeds": 1, "images": 100_000})
    check(design, plugins())
    runs = _assembled(design, plugins(), _Begun(None, {}))
    assert len(runs) == len(CONTENDERS) == 11
    for run in runs:
        rung = run.rungs[0]
        population = len(run.optimizer(rung.space, rung.space.defaults).ask())
        assert population % group_size(run.optimizer(rung.space, rung.space.defaults), run.config, population) == 0


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_protocol_as_a_contender_is_that_protocol_and_nothing_else(config: Any) -> None:
    design = make_design({"config": config, "contenders": CONTENDERS, "seeds": 1, "images": 100_000})
    for name in protocols():
        alone = load_config({**DEFAULT, "protocol": name})
        found = design.contenders[f"protocol-{name}"]
        for key in ("optimizer", "bucket_size", "group_size", "adaptive_bucket"):
            assert getattr(found, key) == getattr(alone, key)


@pytest.mark.parametrize("name", ["default", *(f"protocol-{name}" for name in protocols())])
def test_what_a_protocol_says_of_a_search_stays_with_that_search(name: str) -> None:
    """An optimizer that is named searches as it does by itself, whatever the configuration's protocol is."""
    asked = {"config": CONFIGURATIONS[name], "contenders": CONTENDERS, "seeds": 1, "images": 100_000}
    for optimizer in OPTIMIZERS:
        alone = load_config({**DEFAULT, "optimizer": optimizer})
        found = make_design(asked).contenders[optimizer]
        for key in ("optimizer", "bucket_size", "group_size", "adaptive_bucket", "protocol"):
            assert getattr(found, key) == getattr(alone, key)


def test_what_a_configuration_says_itself_is_every_contender_s() -> None:
    contenders = {"r": "random", "d": None, "w": {"optimizer.sigma0": 0.3}}
    shared = {**DEFAULT, "optimizer": {"name": "cma-es", "sigma0": 0.2}, "bucket_size": 5}
    design = make_design({"config": shared, "contenders": contenders, "images": 4000})
    assert {config.bucket_size for config in design.contenders.values()} == {5}
    assert design.contenders["r"].optimizer.options == {}
    assert design.contenders["d"].optimizer.options == {"sigma0": 0.2}
    assert design.contenders["w"].optimizer.options == {"sigma0": 0.3}


def test_a_group_size_of_the_configuration_s_own_is_used_or_refused() -> None:
    shared = {**DEFAULT, "optimizer": {"name": "cma-es", "population_size": 16}, "bucket_size": 1, "group_size": 8}
    fits = {"c": None, "r": {"optimizer": {"name": "random", "population_size": 24}}}
    design = make_design({"config": shared, "contenders": fits, "images": 4000})
    assert {config.group_size for config in design.contenders.values()} == {8}
    assert _assembled(design, plugins(), _Begun(None, {}))
    for other, said in (("random", "a population of 16 cannot"), ("grouped", "group_size 8 cannot be used")):
        sized = {"name": other} if other == "grouped" else {"name": other, "population_size": 18}
        design = make_design({"config": shared, "contenders": {"c": None, "o": {"optimizer": sized}}, "images": 4000})
        with pytest.raises(ConfigError, match=f"contender 'o': {said.replace('16', '18')}"):
            _assembled(design, plugins(), _Begun(None, {}))


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_comparison_goes_on_as_what_it_was_begun_as(config: Any) -> None:
    """What the store keeps of it makes the same comparison again."""
    design = make_design({"config": config, "contenders": CONTENDERS, "seeds": 2, "images": 100_000})
    again = make_design(yaml.safe_load(yaml.safe_dump(dict(design.asked))))
    assert again.identity(plugins()) == design.identity(plugins())


def test_options_and_a_file_that_say_the_same_are_the_same_comparison(tmp_path: Path) -> None:
    """What is typed with --contender gets no other search keys than a file's contenders."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(DEFAULT))
    names = ["cma-es", "random", "nevergrad:DE", "published"]
    typed = _asked(str(path), 2, {"images": 9000, "name": None, "contender": names, "overrides": ["bucket_size=3"]})
    overrides = {"bucket_size": 3}
    asked = {"config": str(path), "overrides": overrides, "contenders": names, "seeds": 2, "images": 9000}
    assert typed.identity(plugins()) == make_design(asked).identity(plugins())
    assert [config.bucket_size for config in typed.contenders.values()] == [3, 3, 3, 16]


def test_an_override_of_a_protocol_is_used(tmp_path: Path) -> None:
    asked = {"config": {**DEFAULT, "bucket_size": 7}, "contenders": {"a": None, "r": "random"}, "images": 9000}
    design = make_design({**asked, "overrides": {"protocol": "published", "optimizer.sigma0": 0.4}})
    assert design.contenders["a"].bucket_size == 16
    assert design.contenders["a"].optimizer.options == {"sigma0": 0.4, "average": False}
    assert design.contenders["r"].optimizer.options == {}

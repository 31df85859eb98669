"""Every configuration that is shown can be run as written, as far as that can be known without a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from trimpot.comparison.design import check as assess
from trimpot.comparison.design import read_design
from trimpot.engine.seams import Adapter
from trimpot.setup.config import Config, load_config, plugins_of
from trimpot.setup.plugins import plugins

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if not path.stem.startswith("compare-"))
REST = {"objectives": "shapes", "prompts": "shapes"}  # for a page that shows the adapter's part alone
GRANULARITIES = ("block", "layer", "gate")
COUNTS = {"flux": 114, "sd35-flow-grpo": 216, "qwen-image": 478}


def shown() -> list[Any]:
    """Every yaml block with an adapter; tests/test_docs_snippets.py runs those that need a file of their page."""
    found = []
    for page in PAGES:
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
            values = yaml.safe_load(text)
            if isinstance(values, dict) and "adapter" in values and "plugins" not in values:
                found.append(pytest.param(values, id=f"{page.name}-{number}"))
    return found


def check(config: Config) -> None:
    """Names and options of every part are known."""
    known = plugins_of(config)
    for kind, part in (("adapters", config.adapter), ("prompts", config.prompts), ("combinations", config.combine)):
        known.check(kind, part.name, part.options)
    known.check("optimizers", config.optimizer.name, config.optimizer.options)
    for key, reward in config.objectives.items():
        known.check("objectives", reward.name or key, reward.options)


@pytest.mark.parametrize("values", shown())
def test_a_shown_configuration_can_be_run(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It validates, and what it names exists."""
    monkeypatch.chdir(ROOT / "examples" / "one-file")
    check(load_config({**REST, **values}))


def test_pages_show_configurations_of_backbones() -> None:
    """The page of backbones shows some, so that the test above tests something."""
    assert sum("backbones.md" in str(parameter.id) for parameter in shown()) >= 5


def test_the_example_of_a_comparison_can_be_run() -> None:
    """It validates, and has contenders and seeds enough to say what it promises."""
    design = read_design(ROOT / "examples" / "compare-shapes.yaml")
    assess(design, plugins())
    assert len(design.contenders) >= 10
    pairs = len(design.contenders) * (len(design.contenders) - 1) / 2
    assert pairs * 2 ** (1 - len(design.seeds)) < 0.05


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_run(path: Path) -> None:
    """It validates, its options have the right types, and it has as many knobs as it says."""
    config = load_config(path)
    check(config)
    adapter = plugins().make("adapters", config.adapter.name, {"outline": True, **config.adapter.options})
    assert isinstance(adapter, Adapter)
    assert len(adapter.space) == COUNTS[path.stem]
    assert str(COUNTS[path.stem]) in path.read_text(encoding="utf-8")


def test_every_count_on_the_page_of_backbones_is_what_its_command_prints() -> None:
    """The table of knobs by granularity is printed by the commands in it."""
    page = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    row = r"^\| `trimpot knobs (\S+) -g GRANULARITY(.*?) --count` \| (\d+) \| (\d+) \| (\d+) \|"
    lines = re.findall(row, page, re.MULTILINE)
    assert len(lines) == 6
    for name, rest, *counts in lines:
        options = {key: yaml.safe_load(value) for key, value in re.findall(r"-o '?(\w+)=([^' ]+)'?", rest)}
        adapter = plugins().make("adapters", name, {"outline": True, **options})
        assert isinstance(adapter, Adapter)
        assert [len(adapter.tied(granularity)) for granularity in GRANULARITIES] == [int(count) for count in counts]

"""The page about prompts: what it shows can be run as shown."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub import cached
from prompt_lists import ROWS, write
from published_sets import LAYOUTS, lay
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import Notice
from trimpot.prompts.grammar import CATEGORIES
from trimpot.prompts.published import PUBLISHED
from trimpot.setup.config import load_config
from trimpot.setup.plugins import plugins

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
SHOWN = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def made(values: dict[str, Any]) -> PromptSet:
    config = load_config({"adapter": {"name": "sphere", "num_knobs": 3}, "objectives": "value", **values})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        found: PromptSet = plugins().make("prompts", config.prompts.name, config.prompts.options)
    return found


@pytest.mark.parametrize("values", SHOWN, ids=str)
def test_what_the_page_shows_can_be_run(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder where what it names lies."""
    lay(tmp_path / "T2I-CompBench", LAYOUTS["t2i-compbench"]["repository"])
    lay(tmp_path / "HPDv3", {"test.json": LAYOUTS["hpdv3"]["hub"]["test.json"]})
    monkeypatch.chdir(tmp_path)
    prompts = made(values)
    options = values["prompts"] if isinstance(values["prompts"], dict) else {}
    for name in ("train", "validation", "test"):
        assert len(getattr(prompts, name)) == options.get(f"num_{name}", len(getattr(prompts, name)))


@pytest.mark.parametrize("name", [*PUBLISHED, "calibri", "compositional", "geneval"])
def test_a_name_alone_is_enough(name: str, tmp_path: Path, hub_cache: Path, offline: None) -> None:
    """Once what it needs of the hub is in the cache; without any, `compositional` and `geneval` work."""
    for each in LAYOUTS:
        cached(hub_cache, PUBLISHED[each].hub, lay(tmp_path / each, LAYOUTS[each]["hub"]), "datasets")
    assert made({"prompts": name}).all
    if name in ("compositional", "geneval"):
        assert made({"prompts": {"name": name}}).test


def test_the_page_shows_prompts_of_every_category() -> None:
    for category in CATEGORIES:
        [example] = re.findall(rf"^\| `{category}` \| (.*) \|$", PAGE, re.MULTILINE)
        prompts = made({"prompts": {"name": "compositional", "categories": [category]}})
        assert example in prompts.all


def test_the_formats_of_files_that_the_page_lists_are_read(tmp_path: Path) -> None:
    cells = re.findall(r"^\| (`\..*?) \|", PAGE, re.MULTILINE)
    suffixes = re.findall(r"`\.(\w+)`", " ".join(cells))
    assert {"txt", "csv", "tsv", "json", "jsonl", "parquet"} == set(suffixes)
    for suffix in suffixes:
        files = {
            split: str(write(tmp_path, suffix, [(f"{prompt} of {split}", about) for prompt, about in ROWS], split))
            for split in ("train", "validation", "test")
        }
        assert len(made({"prompts": {"name": "files", **files}}).all) == 9

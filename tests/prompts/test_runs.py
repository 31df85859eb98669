"""A run holds its prompts: it goes on when the folder or the hub that they came from is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from closed_form import SMALL, Notes
from hub import cached
from published_sets import LAYOUTS, lay
from sessions import Installed, show
from trimpot.prompts.published import PUBLISHED
from trimpot.runs import session
from trimpot.setup.config import load_config
from trimpot.storage import SqliteStore

NAMES = [*PUBLISHED, "calibri", "compositional"]


@pytest.mark.filterwarnings("ignore::trimpot.ground.errors.Notice")
@pytest.mark.parametrize("where", ["hub", "folder"])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_when_the_source_of_its_prompts_is_gone(
    installed: Installed, tmp_path: Path, hub_cache: Path, offline: None, name: str, where: str
) -> None:
    sources = tmp_path / "sources"
    for each, layouts in LAYOUTS.items():
        folder = lay(sources / each, layouts["hub"])
        if where == "hub":
            cached(hub_cache, PUBLISHED[each].hub, folder, "datasets")
    given: dict[str, Any] = {"source": str(sources / name)} if name in PUBLISHED else {}
    if name == "calibri":
        given = {"t2i_compbench": str(sources / "t2i-compbench"), "hpdv3": str(sources / "hpdv3")}
    config = load_config({**SMALL, "prompts": {"name": name, **(given if where == "folder" else {})}})
    session.start(config, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        session.start(config, tmp_path / "stopped", (Notes(9),))
    with SqliteStore(tmp_path / "stopped") as store:
        recorded = store.prompts("hill-1")
        assert recorded is not None and len(recorded.test) >= 15
    shutil.rmtree(sources)
    shutil.rmtree(hub_cache, ignore_errors=True)
    session.resume(None, tmp_path / "stopped")
    assert show(tmp_path / "stopped")["digest"] == show(tmp_path / "undisturbed")["digest"]

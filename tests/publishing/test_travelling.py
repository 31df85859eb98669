"""A calibration that was pushed here and pulled there is measured to the gain that it claims, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimpot
from hub_server import Hub, known_hub
from published import published_run
from trimpot import reports
from trimpot.engine.calibration import Calibration
from typed import typed

SHORT = [
    *("generations=1", "optimizer.population_size=8", "bucket_size=1", "workers=1", "validation.num_prompts=2"),
    *("test.num_prompts=4", "by_steps.steps=[]", "adapter.num_inference_steps=2", "adapter.guidance_grid=[3]"),
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(reports, "write_report", lambda store, run, files: files.report.write_text(run))
    monkeypatch.delenv("TRIMPOT_STORE", raising=False)
    with known_hub(monkeypatch, tmp_path / "cache") as served:
        yield served


def said(*words: str) -> dict[str, object]:
    status, out, err = typed(*words, "--json")
    assert status == 0, err
    return dict(json.loads(out))


def test_what_is_pushed_here_and_pulled_there_has_the_same_gain(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said("calibrate", "shapes", *SHORT)
    said("push", "shapes-1", "somebody/shapes")
    claimed = Calibration.load("trimpot-runs/shapes-1/calibration.json")
    monkeypatch.chdir(tmp_path / "there")
    assert said("pull", "somebody/shapes")["folder"] == "shapes"
    said("measure", "shapes", "workers=1", "--to", "measured.json")
    found = Calibration.load("measured.json")
    assert claimed.gain is not None and found.gain == claimed.gain
    assert found.by_steps == claimed.by_steps and found.setting == claimed.setting
    pipe = trimpot.load_pipeline("shapes")
    with trimpot.load_calibration(pipe, "somebody/shapes") as applied:
        assert applied.recommended["num_inference_steps"] == 2


def test_a_page_of_a_tag_shows_what_can_be_shown_and_names_the_rest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest gain first, the unmeasured last; a repository without a calibration and a broken one are told."""
    monkeypatch.chdir(tmp_path)
    for name, gain in {"small": (0.01, 0.0, 0.02), "large": (0.2, 0.1, 0.3), "unknown": (0.1, 0.0, 0.2)}.items():
        file = published_run(tmp_path / "trimpot-runs" / name, gain=gain)
        if name == "unknown":
            file.with_name("calibration.json").unlink()
            Calibration.load(tmp_path / "trimpot-runs/small/calibration.json").model_copy(
                update={"gain": None, "by_steps": ()}
            ).save(file)
        said("push", name, f"somebody/{name}")
    card = b"---\ntags:\n- trimpot\n---\n# a card\n"
    hub.commit("somebody/empty", {"README.md": card})
    hub.commit("somebody/broken", {"README.md": card, "calibration.json": b'{"setting": NaN}'})
    status, out, err = typed("gallery", "trimpot", "--to", "page.html", "--json")
    assert status == 0 and json.loads(out)["calibrations"] == ["somebody/large", "somebody/small", "somebody/unknown"]
    assert err.count("\n") == 2 and "Traceback" not in err
    assert "somebody/empty holds no calibration.json" in err and "NaN, where numbers must be finite" in err
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 3 and "+0.200 [+0.100, +0.300]" in page
    assert not list(tmp_path.glob(".*partial")) and not (tmp_path / "somebody").exists()

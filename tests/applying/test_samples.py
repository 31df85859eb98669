"""`trimpot sample` shows a calibration on prompts of one's own, on one page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import trimpot
from applied import STEPS, calibrated
from PIL import Image
from trimpot.adapters import make_shapes
from trimpot.adapters.pipelines import PipelineAdapter
from trimpot.engine.bucket import Bucket
from trimpot.engine.calibration import Calibration
from typer.testing import CliRunner

PROMPTS = ("two red circles", "a <b>blue</b> square & more")


@pytest.fixture(scope="module")
def adapter() -> PipelineAdapter:
    made = make_shapes(num_inference_steps=STEPS)
    assert isinstance(made, PipelineAdapter)
    return made


@pytest.fixture
def file(adapter: PipelineAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    setting = {name: value * 1.1 for name, value in adapter.space.to_setting(adapter.space.defaults).items()}
    file = calibrated(adapter, setting, tmp_path / "calibration.json")
    values = json.loads(file.read_text())
    values["provenance"]["config"] = {"adapter": {"name": "shapes"}}
    file.write_text(json.dumps(values))
    return file


def run(*arguments: str) -> tuple[int, str]:
    from trimpot.cli import app

    found = CliRunner().invoke(app, ["sample", *arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def images_of(page: str) -> dict[str, np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, alt in found}


def test_a_page_holds_neutral_and_calibrated_of_each_prompt_and_seed(
    adapter: PipelineAdapter, file: Path, tmp_path: Path
) -> None:
    code, said = run(str(file), *PROMPTS, "--seeds", "2", "--compare", "--json")
    assert code == 0
    told = json.loads(said)
    assert told["images"] == 8
    page = (tmp_path / told["page"]).read_text()
    images = images_of(page)
    assert len(images) == 8
    assert "<b>blue" not in page
    setting = Calibration.load(file).setting
    population = np.stack([adapter.space.defaults, adapter.space.to_vector(setting)])
    for seed in (0, 1):
        made = adapter.generate(population, Bucket(PROMPTS[:1], (seed,)))
        for side, [expected] in zip(("neutral", "calibrated"), made, strict=True):
            found = images[f"{side}: {PROMPTS[0]}, seed {seed}"]
            assert np.abs(found.astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_without_a_comparison_only_the_calibrated_images_are_made(file: Path, tmp_path: Path) -> None:
    code, said = run(str(file), PROMPTS[0], "--seeds", "1", "--first-seed", "7", "--to", "mine.html")
    assert (code, said.strip()) == (0, "mine.html")
    assert list(images_of((tmp_path / "mine.html").read_text())) == [f"calibrated: {PROMPTS[0]}, seed 7"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere", "a cat"), "no calibration 'nowhere'"),
        (("calibration.json", "a cat", "--strength", "9"), "strength"),
        (("calibration.json", "a cat", "-o", "colour=red"), "colour"),
        (("calibration.json", "a cat", "--to", "no/folder/page.html"), "cannot write no/folder/page.html"),
    ],
)
def test_what_cannot_be_sampled_is_one_sentence(file: Path, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(trimpot.TrimpotError, match=told):
        run(*arguments)

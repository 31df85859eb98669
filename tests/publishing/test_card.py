"""A model card says what was measured, never more, and obeys nothing that a prompt says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from published import published_run
from trimpot.engine.calibration import CHECKSUM, Calibration
from trimpot.ground.errors import CalibrationError
from trimpot.publishing.catalogue import entries_in, write_catalogue
from trimpot.publishing.folder import reproduction, write_folder


def card_of(folder: Path, **options: object) -> ModelCard:
    return ModelCard((folder / "README.md").read_text())


def written(tmp_path: Path, **gain: tuple[float, float, float]) -> Path:
    return write_folder(published_run(tmp_path / "shapes-1", **gain), tmp_path / "out", "me/it")


def test_the_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    card = card_of(written(tmp_path))
    assert card.data.tags == ["trimpot", "calibri", "calibration"]
    assert card.data.library_name == "trimpot"
    assert 'trimpot.load_pipeline("me/it")' in card.text
    assert "**+0.100 [+0.050, +0.150]** on 64 images of 40 prompts" in card.text
    assert "| 4 | 0.500 | 0.600 | +0.100 [+0.050, +0.150] |" in card.text
    assert "`shapes`" in card.text
    assert "entropy" not in card.text  # watched, not optimised


def test_a_base_on_the_hub_is_named_with_its_relation_and_licence(tmp_path: Path) -> None:
    file = published_run(tmp_path / "shapes-1")
    values = json.loads(file.read_text())
    values.pop(CHECKSUM)
    values["backbone"]["source"] = {"id": "owner/base", "revision": "c0ffee"}
    file.write_text(json.dumps(values))
    data = card_of(write_folder(file, tmp_path / "out", "me/it", "mit")).data
    assert (data.base_model, data.base_model_relation, data.license) == ("owner/base", "adapter", "mit")


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.01, -0.02, 0.04), "No gain beyond noise: +0.010 [-0.020, +0.040]"),
        ((-0.1, -0.2, -0.05), "worse than neutral"),
    ],
)
def test_no_gain_is_not_said_to_be_one(tmp_path: Path, gain: tuple[float, float, float], said: str) -> None:
    assert said in card_of(written(tmp_path, gain=gain)).text


def test_prompts_stay_text(tmp_path: Path) -> None:
    folder = written(tmp_path)
    text = (folder / "README.md").read_text()
    assert r"| a red circle \| and &lt;b&gt;more&lt;/b&gt; |" in text
    assert r"two \`blue\` squares" in text


def test_the_configuration_reproduces_and_tells_no_folder_of_its_owner(tmp_path: Path) -> None:
    text = reproduction(Calibration.load(published_run(tmp_path / "shapes-1")))
    assert yaml.safe_load(text)["prompts"] == {"name": "files", "train": "train.txt"}
    assert "#   torch 2.13" in text
    assert "/home" not in text


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = published_run(tmp_path / "shapes-1")
    with pytest.raises(CalibrationError, match="exists already"):
        write_folder(file, tmp_path, "me/it")
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match="cannot write"):
        write_folder(file, tmp_path / "file" / "out", "me/it")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shapes-1"]


def test_a_page_of_many_shows_the_best_first_and_tells_the_damaged(tmp_path: Path) -> None:
    published_run(tmp_path / "runs" / "small", (0.02, 0.01, 0.03))
    published_run(tmp_path / "runs" / "large")
    published_run(tmp_path / "runs" / "damaged").write_text("{")
    entries, wrong = entries_in(tmp_path / "runs")
    assert [entry.name for entry in entries] == ["large", "small"]
    assert len(wrong) == 1
    write_catalogue(tmp_path / "page.html", "Ours", entries)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 8
    assert "<b>more" not in page


def test_pictures_from_elsewhere_show_no_other_file(tmp_path: Path) -> None:
    folder = published_run(tmp_path / "runs" / "sly").parent
    index = json.loads((folder / "images" / "index.json").read_text())
    index["images"][0]["neutral"] = "../calibration.json"
    (folder / "images" / "index.json").write_text(json.dumps(index))
    entries, _ = entries_in(tmp_path / "runs")
    write_catalogue(tmp_path / "page.html", "Ours", entries)
    assert "data:image" not in (tmp_path / "page.html").read_text()

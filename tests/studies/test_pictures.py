"""Pictures from anywhere: what is shown of them, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from studied import folders, picture
from trimpot.ground.errors import ConfigError, Notice
from trimpot.storage import SqliteStore, Studies
from trimpot.studies.beginning import asked_for, begin
from trimpot.studies.pictures import folder_sets, of_one_size, opened, shuffled


def test_names_match_up_to_their_ending_and_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    one, other = map(Path, folders(tmp_path, 12))
    for path in other.glob("*.png"):
        Image.open(path).convert("RGB").save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    found = folder_sets([one, other], None)
    assert [item.name for item in found.items] == [str(n) for n in range(12)]
    assert found.labels == ("calibrated", "neutral") and found.items[10].prompt == "prompt 4"
    assert [path.name for path in found.pictures[1]] == [f"{n}.webp" for n in range(12)]


def test_prompts_are_found_by_name_or_in_order(tmp_path: Path) -> None:
    one, other = map(Path, folders(tmp_path, 3))
    (one / "prompts.jsonl").unlink()
    (tmp_path / "lines.txt").write_text("first\nsecond\nthird\n")
    assert folder_sets([one, other], tmp_path / "lines.txt").items[0].prompt == "first"
    (other / "metadata.csv").write_text("file_name,text\nsub/2.png,two\n0.png,zero\n1,one\n")
    assert [item.prompt for item in folder_sets([one, other], None).items] == ["zero", "one", "two"]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for where in ("x", "y"):
        folders(tmp_path / where, 2)
    found = folder_sets(
        [tmp_path / "x" / "neutral", tmp_path / "y" / "neutral"], tmp_path / "x/calibrated/prompts.jsonl"
    )
    assert found.labels == ("x/neutral", "y/neutral")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: (b / "1.png").unlink(), "holds 1 pictures that .* lacks, such as '1.png'"),
        (lambda a, b: (a / "1.png").unlink(), "holds 1 pictures that .* lacks, such as '1.png'"),
        (lambda a, b: picture(1).save(a / "1.jpg"), "keep one picture of a name"),
        (lambda a, b: [path.unlink() for path in b.glob("*.png")], "holds no pictures"),
        (lambda a, b: (a / "prompts.jsonl").unlink(), "no prompts for the pictures"),
        (lambda a, b: (a / "prompts.jsonl").write_text('{"prompt": "x"}\n'), "holds 1 prompts for the 3 pictures"),
        (
            lambda a, b: (a / "prompts.jsonl").write_text('{"file": "1.png", "prompt": "x"}\n'),
            "no prompt for 2 pictures",
        ),
        (lambda a, b: (b / "prompts.jsonl").write_text('{"prompt": "x"}\n'), "differ; say with --prompts"),
        (
            lambda a, b: (a / "prompts.jsonl").write_text(
                "".join(json.dumps({"file": "1.png", "prompt": text}) + "\n" for text in "xy")
            ),
            "gives '1.png' two prompts",
        ),
        (lambda a, b: (b / "1.png").write_bytes(b"no picture"), "1.png cannot be read as a picture"),
        (lambda a, b: (b / "1.png").write_bytes((b / "0.png").read_bytes()[:200]), "1.png cannot be read as a picture"),
    ],
)
def test_what_does_not_match_is_refused_and_nothing_is_begun(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    one, other = map(Path, folders(tmp_path, 3))
    change(one, other)
    with SqliteStore(tmp_path / "store") as store:
        with pytest.raises(ConfigError, match=said):
            begin(store, asked_for(store, [str(one), str(other)]))
        assert not Studies(store).names()


def test_a_set_beside_itself_or_beside_its_copy_is_refused(tmp_path: Path) -> None:
    one, other = map(Path, folders(tmp_path, 3))
    with SqliteStore(tmp_path / "store") as store:
        with pytest.raises(ConfigError, match="the same folder is given twice"):
            begin(store, asked_for(store, [str(one), f"{one}/../{one.name}"]))
        with pytest.raises(ConfigError, match="is one folder of pictures"):
            asked_for(store, [str(one)])
        for path in one.glob("*.png"):
            (other / path.name).write_bytes(path.read_bytes())
        with pytest.raises(ConfigError, match="every picture of calibrated is that of neutral"):
            begin(store, asked_for(store, [str(one), str(other)]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_a_picture_of_any_mode_is_shown_as_plain_rgb(mode: str) -> None:
    grey = Image.new("L", (8, 6), 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 8), 200 * 257, np.uint16))
    elif mode in ("I", "F"):
        image = Image.fromarray(np.full((6, 8), 200, np.int32 if mode == "I" else np.float32))
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("HSV", "YCbCr", "CMYK") else grey.convert(mode)
    found = opened(image)
    assert (found.mode, found.size, found.info) == ("RGB", (8, 6), {})
    level = np.asarray(found).mean()
    assert abs(level - 200) < 2 or mode == "1"


def test_what_a_file_says_of_itself_stays_behind(tmp_path: Path) -> None:
    image, notes = picture(0), PngImagePlugin.PngInfo()
    notes.add_text("parameters", "calibrated")
    exif = Image.Exif()
    exif[0x0112] = 3  # stands on its head
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "x.png", pnginfo=notes, exif=exif, icc_profile=profile, dpi=(300, 300))
    found = opened(tmp_path / "x.png")
    assert found.info == {} and not found.getexif()
    assert np.abs(np.asarray(found).astype(int) - np.asarray(image.rotate(180)).astype(int)).max() <= 1


def test_transparency_is_shown_on_white() -> None:
    assert np.asarray(opened(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))).min() == 255


def test_pictures_of_other_sizes_are_shown_in_the_smallest_and_it_is_said(tmp_path: Path) -> None:
    one, other = map(Path, folders(tmp_path, 3))
    picture(1, (48, 48)).save(other / "1.png")
    with SqliteStore(tmp_path / "store") as store:
        with pytest.warns(Notice, match="1 of 3 prompts differ in size"):
            study = begin(store, asked_for(store, [str(one), str(other)]))
        files = Studies(store).get(study).config["pictures"]
        assert {Studies(store).image(file).size for row in files for file in row} == {(24, 24)}
    wide, tall = of_one_size([picture(0, (30, 10)), picture(1, (10, 20))])
    assert wide.size == tall.size == (10, 10)
    assert np.asarray(wide)[0].tolist() == [[128] * 3] * 10, "grey beside a picture of another shape"


def test_a_shuffled_picture_has_the_same_pixels_elsewhere() -> None:
    image = picture(0)
    found = np.asarray(shuffled(image, 1)).reshape(-1, 3)
    own = np.asarray(image).reshape(-1, 3)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, own.tolist()))
    assert (found != own).any(axis=1).mean() > 0.9


def test_a_picture_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(0).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=r"x\.png cannot be read as a picture"):
            opened(tmp_path / "x.png")

"""What rewards are given: pictures of every sensible mode, and a word about prompts that are too long."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image
from trimpot.ground.errors import ScoreError
from trimpot.objectives.images import PromptTruncated, Truncation, rgb
from trimpot.proofs.rewards._tiny import byte_tokenizer


def test_what_is_transparent_lies_on_white() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (255, 0, 0, 51))
    (flat,) = rgb([picture])
    assert flat.mode == "RGB"
    assert [flat.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0), (255, 204, 204)]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "PA", "RGB", "RGBA"])
def test_every_sensible_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (3, 2), 0)
    grey.putpixel((1, 1), 255)
    picture = grey.convert(mode) if mode != "PA" else grey.convert("P").convert("PA")
    (flat,) = rgb([picture])
    assert np.array_equal(np.asarray(flat), np.stack([np.asarray(grey)] * 3, axis=-1))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_video_of_one_frame_is_its_picture(kind: type) -> None:
    picture = Image.new("RGB", (2, 2), "red")
    assert rgb([kind([picture]), picture]) == [picture, picture]


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("a red circle", "str"),
        (None, "NoneType"),
        (np.zeros((4, 4, 3), dtype=np.uint8), r"numpy\.ndarray of shape \(4, 4, 3\)"),
        ([Image.new("RGB", (4, 4))] * 3, "video of 3 frames"),
        ([], "list"),
        (["a red circle"], "str"),
        (Image.new("CMYK", (4, 4)), "mode CMYK"),
        (Image.new("F", (4, 4)), "mode F"),
    ],
)
def test_anything_else_is_refused_by_name(output: object, named: str) -> None:
    with pytest.raises(ScoreError, match=named) as caught:
        rgb([Image.new("RGB", (4, 4)), output])
    assert "\n" not in str(caught.value)


def test_a_long_prompt_is_told_of_once() -> None:
    truncation, tokenizer = Truncation("pickscore", 16), byte_tokenizer(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        truncation.notice(tokenizer, ["fourteen chars", "x" * 14])
    with pytest.warns(PromptTruncated, match="pickscore reads 16 tokens of a prompt, but .* has 17"):
        truncation.notice(tokenizer, ["short", "y" * 15])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        truncation.notice(tokenizer, ["z" * 99])

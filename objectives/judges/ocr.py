"""The legibility in a picture of the text that the prompt asks for, measured by an OCR model.

    score = 1 - min(lev(read, wanted), len(wanted)) / len(wanted)    or 1 if `wanted` occurs in `read`

Here lev is the Levenshtein distance, and `read` is the concatenation of all lines found. Both texts are in lower case
and without spaces. The score is 1 if the picture contains the text, and 0 if it contains nothing similar.

Source: Liu et al., "Flow-GRPO", arXiv 2505.05470, section 4.1 and https://github.com/yifan123/flow_grpo, its ocr.py.
Flow-GRPO uses PaddleOCR; this module uses rapidocr, whose package contains PP-OCR's weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from ...ground.errors import ConfigError, ScoreError
from ...ground.extras import EXTRAS, require
from ..images import PICTURES, rgb

if TYPE_CHECKING:
    from PIL.Image import Image

_QUOTED = r'"([^"]+)"|\u201c([^\u201d]+)\u201d'
_PACKAGES = ("rapidocr", "onnxruntime", "opencv-python-headless")


class OCR(Objective):
    """The legibility of the wanted text, from 0 to 1.

    Args:
        target: A regular expression with a group that matches the wanted text; None uses the prompt's first text in
            double quotes.
        detect: Whether to detect lines of text first; False reads the whole picture as one line, for small pictures.
        upscale: The factor by which pictures are enlarged before reading, with a bicubic filter.

    Raises:
        ConfigError: If `target` is no regular expression or has no group.
        MissingError: If a package of the extra `ocr` is not installed.
    """

    reads = PICTURES

    def __init__(self, *, target: str | None = None, detect: bool = True, upscale: int = 1) -> None:
        try:
            self.target = re.compile(target or _QUOTED)
        except re.error as error:
            raise ConfigError(f"option target: {target!r} is no regular expression: {error}") from None
        if self.target.groups == 0:
            raise ConfigError(f"option target: {target!r} needs a group in parentheses around the wanted text")
        self.detect, self.upscale = detect, upscale
        require("objective 'ocr'", *EXTRAS["ocr"])
        from rapidfuzz.distance import Levenshtein
        from rapidocr import RapidOCR

        self._distance = Levenshtein.distance
        self._reader: Any = RapidOCR(
            params={"Global.log_level": "critical", "Global.text_score": 0.0, "Global.use_cls": False}
        )

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Read the outputs and compare the texts with the wanted ones. See `Objective.score`.

        Raises:
            ScoreError: If a prompt names no text.
        """
        wanted = [self.wanted(prompt) for prompt in prompts]
        pairs = zip(rgb(outputs), wanted, strict=True)
        return np.array([self._legible(self.read(picture), text) for picture, text in pairs], dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        return {
            "id": "rapidocr",
            "models": {
                task: f"{part.ocr_version.value} {part.model_type.value}" for task, part in self._parts().items()
            },
            "versions": {package: _version(package) for package in _PACKAGES},
            "target": self.target.pattern,
            "detect": self.detect,
            "upscale": self.upscale,
            "convention": "flow-grpo: 1 - min(lev, length) / length",
        }

    def wanted(self, prompt: str) -> str:
        """Return the text that a prompt asks for, without spaces, in lower case.

        Raises:
            ScoreError: If the prompt names no text.
        """
        match = self.target.search(prompt)
        text = _plain(next((group for group in match.groups() if group), "")) if match else ""
        if not text:
            raise ScoreError(
                f"the prompt {prompt[:60]!r} names no text to read; put it in double quotes, or set `target` to a "
                "regular expression with one group"
            )
        return text

    def read(self, picture: Image) -> str:
        """Return all text found in a picture, without spaces, in lower case."""
        large = (
            picture.resize((picture.width * self.upscale, picture.height * self.upscale))
            if self.upscale > 1
            else picture
        )
        # The reader expects OpenCV's order of channels: blue, green, red.
        found = self._reader(np.asarray(large)[..., ::-1], use_det=self.detect).txts
        return _plain("".join(found or ()))

    def _legible(self, read: str, wanted: str) -> float:
        missed = 0 if wanted in read else min(self._distance(read, wanted), len(wanted))
        return 1 - missed / len(wanted)

    def _parts(self) -> dict[str, Any]:
        parts = {"recognition": self._reader.cfg.Rec}
        return {"detection": self._reader.cfg.Det, **parts} if self.detect else parts


def _plain(text: str) -> str:
    return "".join(text.split()).lower()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # OpenCV is distributed under several names
        return "unknown"

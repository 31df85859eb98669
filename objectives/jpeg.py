"""The size of a picture as a JPEG file, as a reward for large or for small files.

Black et al. 2023, Training Diffusion Models with Reinforcement Learning, arXiv 2305.13301, section 5; 1 kB is
1000 bytes. The size depends slightly on the JPEG library that Pillow was built with.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from .images import PICTURES, rgb
from .pretrained import versions

if TYPE_CHECKING:
    from PIL.Image import Image

Direction = Literal["incompressible", "compressible"]
_SAYS = {"incompressible": "kB at quality 95", "compressible": "-kB at quality 95 / 500"}


class JpegSize(Objective):
    """The size of a picture as a JPEG file of quality 95; it ignores the prompt.

    Args:
        direction: `incompressible` is the size in kB; `compressible` is its negative divided by 500, as published.
    """

    reads = PICTURES

    def __init__(self, *, direction: Direction) -> None:
        self.direction = direction

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures by the size of their JPEG files. See `Objective.score`."""
        sizes = np.array([_kilobytes(picture) for picture in rgb(outputs)], dtype=np.float64)
        return sizes if self.direction == "incompressible" else -sizes / 500

    def describe(self) -> dict[str, Any]:
        """Describe the direction and the JPEG library. See `Objective.describe`."""
        from PIL import features

        libraries = {name: features.version(name) for name in ("jpg", "libjpeg_turbo")}
        return {
            "convention": self.direction,
            "score": _SAYS[self.direction],
            **libraries,
            "versions": versions("pillow"),
        }


def _kilobytes(picture: Image) -> float:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=95)
    return buffer.tell() / 1000

"""Convert pictures to tensors as published, for models whose processor in transformers does it differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_tensor(picture: Image) -> Any:
    """Convert an RGB picture to a float32 tensor of shape (3, height, width) in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1).float() / 255


def resize(pixels: Any, height: int, width: int, how: Literal["bicubic", "bilinear"]) -> Any:
    """Resize a tensor of shape (3, height, width) with antialiasing, as torchvision does.

    Bicubic interpolation may slightly leave [0, 1]: the result is neither clipped nor rounded.
    """
    from torch.nn.functional import interpolate

    return interpolate(pixels[None], (height, width), mode=how, antialias=True, align_corners=False)[0]


def clip_pixels(picture: Image, size: int) -> Any:
    """Preprocess a picture as the first CLIP does: bicubic PIL resize of the shorter edge, centre crop, normalization.

    Returns:
        Shape (3, size, size).
    """
    from PIL.Image import Resampling

    height, width = _shortest_edge(picture.height, picture.width, size)
    pixels = to_tensor(picture.resize((width, height), Resampling.BICUBIC))
    return normalized(_middle(pixels, size), CLIP_MEAN, CLIP_STD)


def shortest_edge(pixels: Any, size: int) -> Any:
    """Resize a tensor bilinearly so that its shorter edge is `size`, then crop the central square."""
    height, width = _shortest_edge(pixels.shape[1], pixels.shape[2], size)
    return _middle(resize(pixels, height, width, "bilinear"), size)


def _shortest_edge(height: int, width: int, size: int) -> tuple[int, int]:
    longer = int(size * max(height, width) / min(height, width))
    return (size, longer) if height <= width else (longer, size)


def _middle(pixels: Any, size: int) -> Any:
    top, left = (round((edge - size) / 2) for edge in pixels.shape[1:])
    return pixels[:, top : top + size, left : left + size]


def longest_edge(pixels: Any, size: int) -> Any:
    """Resize a tensor bicubically so that its longer edge is `size`, then pad it with black to a centred square."""
    from torch.nn.functional import pad

    height, width = pixels.shape[1:]
    scale = size / max(height, width)
    if scale != 1:
        height, width = round(height * scale), round(width * scale)
        pixels = resize(pixels, height, width, "bicubic")
    left, top = (size - width) // 2, (size - height) // 2
    return pad(pixels, [left, size - width - left, top, size - height - top])


def normalized(pixels: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Subtract the mean from each channel of a tensor of shape (3, height, width), and divide by `std`."""
    import torch

    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

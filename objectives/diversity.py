"""Diversity: the distance between pictures of the same prompt.

A picture's score is its mean distance to the other pictures of its prompt in the same call. The mean of these scores is
the mean over all pairs, which is the published measure.

The distance is 1 - cosine of DINO features (Caron et al. 2021, arXiv 2104.14294), or LPIPS (Zhang et al. 2018, arXiv
1801.03924).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError
from ..ground.plain import quoted
from .clip import PROCESSED, unit
from .hosting import Host, awake
from .images import PICTURES, rgb
from .lpips import SMALLEST, Lpips
from .pretrained import Weights, versions

if TYPE_CHECKING:
    from PIL.Image import Image

Distances = NDArray[np.float64]


class Diversity(Objective):
    """The mean distance of a picture to the other pictures of its prompt."""

    reads = PICTURES
    scores_sets = True
    host: Host

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score each picture against the other pictures of its prompt. See `Objective.score`.

        Raises:
            ScoreError: If a prompt has only one picture.
        """
        pictures, scores = rgb(outputs), np.empty(len(outputs))
        for prompt in dict.fromkeys(prompts):
            places = [place for place, other in enumerate(prompts) if other == prompt]
            if len(places) < 2:
                raise ScoreError(
                    f"{quoted(prompt)} has only one picture, but diversity compares pictures: give it two seeds or more"
                )
            distances = self.distances([pictures[place] for place in places])
            np.fill_diagonal(distances, 0)
            scores[places] = distances.sum(1) / (len(places) - 1)
        return scores

    @abstractmethod
    def distances(self, pictures: Sequence[Image]) -> Distances:
        """Compute pairwise distances, shape (num_pictures, num_pictures); the diagonal is ignored."""


class DinoDiversity(Diversity):
    """1 - cosine of DINO's class tokens: 0 for equal pictures, about 0.2 to 0.6 for pictures of one prompt.

    Args:
        model: The ViT weights and their image processor.
        revision: The revision of `model` on the hub.
        host: The host of the ViT; cosines are computed from float32 features.
    """

    def __init__(self, *, model: str, revision: str | None, host: Host) -> None:
        self._weights, self.host = Weights(model, revision), host
        self._processor = self._weights.load("AutoImageProcessor", backend="pil")
        self._model = host.load(self._weights, "ViTModel", add_pooling_layer=False)

    def distances(self, pictures: Sequence[Image]) -> Distances:
        """Compute 1 - cosine of every pair. See `Diversity.distances`."""
        found = np.stack(self.host.map(pictures, self._features))
        return np.asarray(1 - found @ found.T)

    def _features(self, pictures: Sequence[Image]) -> NDArray[np.float64]:
        import torch

        pixels = self._processor(images=list(pictures), return_tensors="pt").pixel_values
        with torch.inference_mode():
            hidden = self._model(pixel_values=pixels.to(self.host.device, self.host.dtype)).last_hidden_state
        return np.asarray(unit(hidden[:, 0]).cpu().numpy(), dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Describe weights and preprocessing. See `Objective.describe`."""
        return {
            "weights": self._weights.describe(),
            "convention": "1 - cosine of class tokens, mean over the prompt's other pictures",
            "pixels": PROCESSED,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


class LpipsDiversity(Diversity):
    """LPIPS between pictures of a prompt: 0 for equal pictures, about 0.5 to 0.8 for dissimilar ones.

    Args:
        model: The folder or hub id that holds both files.
        revision: The revision of `model` on the hub.
        backbone: The file name of torchvision's AlexNet.
        heads: The file name of the published heads, `lpips/weights/v0.1/alex.pth` in the package lpips.
        host: The host of the convolutions.
    """

    def __init__(self, *, model: str, revision: str | None, backbone: str, heads: str, host: Host) -> None:
        self._weights, self._files, self.host = Weights(model, revision), (backbone, heads), host
        self._lpips = Lpips(self._weights, backbone=backbone, heads=heads, host=host)

    def distances(self, pictures: Sequence[Image]) -> Distances:
        """Compute LPIPS of every pair. See `Diversity.distances`."""
        sizes = {picture.size for picture in pictures}
        if len(sizes) > 1 or min(map(min, sizes)) < SMALLEST:
            raise ScoreError(
                f"LPIPS compares pictures of one size, at least {SMALLEST} pixels high and wide, but got "
                + ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            )

        def work(some: Sequence[Image]) -> Any:
            return self._lpips.features(some).float().cpu().numpy()

        rows = np.stack(self.host.map(pictures, work)).astype(np.float64)
        return np.array([((rows - row) ** 2).sum(1) for row in rows])

    def describe(self) -> dict[str, Any]:
        """Describe weights and convention. See `Objective.describe`."""
        return {
            "weights": {**self._weights.describe(), "files": list(self._files)},
            "convention": "LPIPS 0.1 with AlexNet, mean over the prompt's other pictures",
            "pixels": "as they are",
            **self.host.describe(),
            "versions": versions("torch", "pillow"),
        }

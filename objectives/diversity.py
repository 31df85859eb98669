"""Diversity: how different the pictures of one prompt are from each other.

A measure of a set is split into scores of its members: a picture's score is its mean distance to the other pictures
of its prompt in the same call. Their mean is the mean over pairs, which is the published measure.

Of DINO features the distance is 1 - cosine (Caron et al. 2021, arXiv 2104.14294, for the features); of LPIPS it is
that distance (Zhang et al. 2018, arXiv 1801.03924).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError
from .clip import PROCESSED, unit
from .hosting import Host, awake
from .images import rgb
from .lpips import SMALLEST, Lpips
from .pretrained import Weights, versions

if TYPE_CHECKING:
    from PIL.Image import Image

Distances = NDArray[np.float64]


class Diversity(Objective):
    """The mean distance of a picture to its prompt's other pictures."""

    scores_sets = True
    host: Host

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures by their sets. See `Objective.score`.

        Raises:
            ScoreError: If a prompt has one picture only.
        """
        pictures, scores = rgb(outputs), np.empty(len(outputs))
        for prompt in dict.fromkeys(prompts):
            places = [place for place, other in enumerate(prompts) if other == prompt]
            if len(places) < 2:
                raise ScoreError(
                    f"{prompt!r} has one picture only, and diversity is a matter of several: give it two seeds or more"
                )
            distances = self.distances([pictures[place] for place in places])
            np.fill_diagonal(distances, 0)
            scores[places] = distances.sum(1) / (len(places) - 1)
        return scores

    @abstractmethod
    def distances(self, pictures: Sequence[Image]) -> Distances:
        """How far pictures are apart, shape (num_pictures, num_pictures); the diagonal does not count."""


class DinoDiversity(Diversity):
    """1 - cosine of DINO's class tokens: 0 for equal pictures, about 0.2 to 0.6 for a prompt's.

    Args:
        model: Which ViT weights, with their image processor.
        revision: Of it, on the hub.
        host: Holds the tower; cosines are taken in float32.
    """

    def __init__(self, *, model: str, revision: str | None, host: Host) -> None:
        self._weights, self.host = Weights(model, revision), host
        self._processor = self._weights.load("AutoImageProcessor", backend="pil")
        self._model = host.load(self._weights, "ViTModel", add_pooling_layer=False)

    def distances(self, pictures: Sequence[Image]) -> Distances:
        """1 - cosine. See `Diversity.distances`."""
        found = np.stack(self.host.map(pictures, self._features))
        return np.asarray(1 - found @ found.T)

    def _features(self, pictures: Sequence[Image]) -> NDArray[np.float64]:
        import torch

        pixels = self._processor(images=list(pictures), return_tensors="pt").pixel_values
        with torch.inference_mode():
            hidden = self._model(pixel_values=pixels.to(self.host.device, self.host.dtype)).last_hidden_state
        return np.asarray(unit(hidden[:, 0]).cpu().numpy(), dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Weights and preprocessing. See `Objective.describe`."""
        return {
            "weights": self._weights.describe(),
            "convention": "1 - cosine of class tokens, mean over the prompt's other pictures",
            "pixels": PROCESSED,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


class LpipsDiversity(Diversity):
    """LPIPS of a prompt's pictures: 0 for equal ones, about 0.5 to 0.8 for unlike ones.

    Args:
        model: Folder or hub id that holds both files.
        revision: Of it, on the hub.
        backbone: File name of torchvision's AlexNet.
        heads: File name of the published heads, `lpips/weights/v0.1/alex.pth` of the package lpips.
        host: Holds the convolutions.
    """

    def __init__(self, *, model: str, revision: str | None, backbone: str, heads: str, host: Host) -> None:
        self._weights, self._files, self.host = Weights(model, revision), (backbone, heads), host
        self._lpips = Lpips(self._weights, backbone=backbone, heads=heads, host=host)

    def distances(self, pictures: Sequence[Image]) -> Distances:
        """LPIPS. See `Diversity.distances`."""
        sizes = {picture.size for picture in pictures}
        if len(sizes) > 1 or min(map(min, sizes)) < SMALLEST:
            raise ScoreError(
                f"LPIPS compares pictures of one size, {SMALLEST} pixels at least, but got "
                + ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            )

        def work(some: Sequence[Image]) -> Any:
            return self._lpips.features(some).float().cpu().numpy()

        rows = np.stack(self.host.map(pictures, work)).astype(np.float64)
        return np.array([((rows - row) ** 2).sum(1) for row in rows])

    def describe(self) -> dict[str, Any]:
        """Weights. See `Objective.describe`."""
        return {
            "weights": {**self._weights.describe(), "files": list(self._files)},
            "convention": "LPIPS 0.1 with AlexNet, mean over the prompt's other pictures",
            "pixels": "as they are",
            **self.host.describe(),
            "versions": versions("torch", "pillow"),
        }

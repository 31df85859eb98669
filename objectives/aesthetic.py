"""The LAION aesthetic score: a linear function of CLIP's picture embedding.

Schuhmann 2022, improved-aesthetic-predictor, head `sac+logos+ava1-l14-linearMSE`. The published head has five
layers with nothing between them, which makes it one affine map; that map ships with the package
(`aesthetic.json`, with where it came from). The prompt does not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError
from ..ground.weights import weights_digest
from .clip import PROCESSED, Clip
from .hosting import Host, awake
from .images import rgb
from .pretrained import Weights, versions

if TYPE_CHECKING:
    from PIL.Image import Image


class Aesthetic(Objective):
    """How pleasing a picture is, about 1 to 10, as people rated pictures of the web and of early generators.

    Args:
        model: Which CLIP weights; the shipped head belongs to `openai/clip-vit-large-patch14`.
        revision: Of it, on the hub.
        head: File of another head of the same kind, a state dict of linear layers `layers.N`; None is the shipped one.
        host: Holds CLIP; the head computes in float64.
    """

    def __init__(self, *, model: str, revision: str | None, head: str | None, host: Host) -> None:
        self.host = host
        self._weights, self._head = Weights(model, revision), head
        self.weight, self.bias = shipped_head() if head is None else loaded_head(head)
        loaded = host.load(self._weights, "CLIPModel")
        width = loaded.config.projection_dim
        if width != len(self.weight):
            raise ScoreError(
                f"the aesthetic head reads embeddings of width {len(self.weight)} and {model} makes {width}; "
                "name the CLIP that the head was trained on"
            )
        self.clip = Clip("aesthetic", loaded, self._weights, host)

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures, whatever their prompts. See `Objective.score`."""

        def work(some: Sequence[Image]) -> Any:
            return self.clip.pictures(self.clip.processed(some)).cpu().numpy().astype(np.float64)

        seen = np.stack(self.host.map(rgb(outputs), work))
        return np.asarray(seen @ self.weight + self.bias, dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Weights, head and preprocessing. See `Objective.describe`."""
        return {
            "weights": self._weights.describe(),
            "head": "sac+logos+ava1-l14-linearMSE" if self._head is None else weights_digest(Path(self._head)),
            "pixels": PROCESSED,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


def shipped_head() -> tuple[NDArray[np.float64], float]:
    """The shipped affine map: its weight, shape (768,), and bias."""
    said = json.loads((resources.files("trimpot.objectives") / "aesthetic.json").read_text(encoding="utf-8"))
    return np.array(said["weight"], dtype=np.float64), float(said["bias"])


def loaded_head(path: str) -> tuple[NDArray[np.float64], float]:
    """The affine map of a published head's file.

    Raises:
        ScoreError: If the file is missing or holds no such head.
    """
    file = Path(path)
    state = Weights(str(file.parent.resolve())).tensors(file.name)
    numbers = sorted(
        int(name.split(".")[1]) for name in state if name.startswith("layers.") and name.endswith("weight")
    )
    layers = [
        (state[f"layers.{n}.weight"].double().numpy(), state[f"layers.{n}.bias"].double().numpy()) for n in numbers
    ]
    if not layers or layers[-1][0].shape[0] != 1:
        raise ScoreError(f"{path} is no aesthetic head; give a state dict of linear layers that end in one number")
    return collapsed(layers)


def collapsed(
    layers: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], float]:
    """Linear layers with nothing between them, the last of them one number wide, as one affine map.

    Args:
        layers: Weight, shape (num_out, num_in), and bias, shape (num_out,), of each.

    Returns:
        Weight, shape (num_in of the first,), and bias.
    """
    weight, bias = layers[0]
    for following, shift in layers[1:]:
        weight, bias = following @ weight, following @ bias + shift
    return weight[0], float(bias[0])

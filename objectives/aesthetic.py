"""The LAION aesthetic score: an affine function of CLIP's picture embedding. It ignores the prompt.

Schuhmann 2022, improved-aesthetic-predictor, head `sac+logos+ava1-l14-linearMSE`. The published head has five linear
layers without activations between them, so it is one affine map. The package contains that map and its source in
`aesthetic.json`.
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
from .images import PICTURES, rgb
from .pretrained import Weights, versions

if TYPE_CHECKING:
    from PIL.Image import Image


class Aesthetic(Objective):
    """The LAION aesthetic score, about 1 to 10, trained on ratings of web pictures and of early generators' pictures.

    Args:
        model: The CLIP weights; the shipped head belongs to `openai/clip-vit-large-patch14`.
        revision: The revision of `model` on the hub.
        head: The file of another head: a state dict of linear layers `layers.N`. None uses the shipped head.
        host: The host of CLIP; the head computes in float64.
    """

    reads = PICTURES

    def __init__(self, *, model: str, revision: str | None, head: str | None, host: Host) -> None:
        self.host = host
        self._weights, self._head = Weights(model, revision), head
        self.weight, self.bias = shipped_head() if head is None else loaded_head(head)
        loaded = host.load(self._weights, "CLIPModel")
        width = loaded.config.projection_dim
        if width != len(self.weight):
            raise ScoreError(
                f"the aesthetic head reads embeddings of width {len(self.weight)}, but those of {model} have {width}; "
                "name the CLIP that the head was trained on"
            )
        self.clip = Clip("aesthetic", loaded, self._weights, host)

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures without regard to their prompts. See `Objective.score`."""

        def work(some: Sequence[Image]) -> Any:
            return self.clip.pictures(self.clip.processed(some)).cpu().numpy().astype(np.float64)

        seen = np.stack(self.host.map(rgb(outputs), work))
        return np.asarray(seen @ self.weight + self.bias, dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Describe weights, head and preprocessing. See `Objective.describe`."""
        return {
            "weights": self._weights.describe(),
            "head": "sac+logos+ava1-l14-linearMSE" if self._head is None else weights_digest(Path(self._head)),
            "pixels": PROCESSED,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


def shipped_head() -> tuple[NDArray[np.float64], float]:
    """Return the weight, shape (768,), and the bias of the shipped affine map."""
    said = json.loads((resources.files("trimpot.objectives") / "aesthetic.json").read_text(encoding="utf-8"))
    return np.array(said["weight"], dtype=np.float64), float(said["bias"])


def loaded_head(path: str) -> tuple[NDArray[np.float64], float]:
    """Load the affine map of a published head from its file.

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
    """Multiply consecutive linear layers into one affine map; the last layer must have one output.

    Args:
        layers: The weight, shape (num_out, num_in), and the bias, shape (num_out,), of every layer.

    Returns:
        The weight, shape (num_in of the first layer,), and the bias.
    """
    weight, bias = layers[0]
    for following, shift in layers[1:]:
        weight, bias = following @ weight, following @ bias + shift
    return weight[0], float(bias[0])

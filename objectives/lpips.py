"""LPIPS, a perceptual distance of pictures: weighted squared differences of AlexNet's features.

Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, arXiv 1801.03924,
equation 1, version 0.1. This module implements AlexNet's five convolutions, so that torchvision is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..ground.errors import ScoreError
from .hosting import Host
from .pixels import normalized, to_tensor
from .pretrained import Weights

if TYPE_CHECKING:
    from PIL.Image import Image

# For every convolution: index in torchvision's `features`, stride, padding, and whether 3x3 pooling precedes it.
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
# The published constants apply to pixels in [-1, 1]; these are the equivalent constants for pixels in [0, 1].
_MEAN = tuple((1 + shift) / 2 for shift in (-0.030, -0.088, -0.188))
_STD = tuple(scale / 2 for scale in (0.458, 0.448, 0.450))
SMALLEST = 32


class Lpips:
    """A feature extractor: the squared Euclidean distance of two pictures' features is their LPIPS.

    Args:
        weights: The source of both files.
        backbone: The file name of torchvision's AlexNet.
        heads: The file name of the published heads, `lin0` to `lin4`.
        host: The host of the layers.

    Raises:
        ScoreError: If a file lacks a layer.
    """

    def __init__(self, weights: Weights, *, backbone: str, heads: str, host: Host) -> None:
        alexnet, linear = weights.tensors(backbone), weights.tensors(heads)
        self.host = host
        try:
            layers = [_layer(alexnet, linear, index) for index in range(len(_CONVOLUTIONS))]
        except KeyError as error:
            raise ScoreError(
                f"{weights.model} does not hold LPIPS: {error.args[0]} is missing; give torchvision's AlexNet and the "
                "heads of the package lpips"
            ) from None
        self._layers = host.hold(
            {
                (index, part): tensor.to(host.dtype)
                for index, layer in enumerate(layers)
                for part, tensor in layer.items()
            }
        )

    def features(self, pictures: Sequence[Image]) -> Any:
        """Compute a feature vector of every picture, shape (num_pictures, width).

        Args:
            pictures: RGB pictures of equal size.
        """
        import torch
        from torch.nn.functional import conv2d, max_pool2d

        x = torch.stack([normalized(to_tensor(picture), _MEAN, _STD) for picture in pictures])
        x = x.to(self.host.device, self.host.dtype)
        found = []
        with torch.inference_mode():
            for index, (_, stride, padding, pooled) in enumerate(_CONVOLUTIONS):
                weight, bias, head = (self._layers[index, part] for part in ("weight", "bias", "head"))
                x = max_pool2d(x, 3, 2) if pooled else x
                x = conv2d(x, weight, bias, stride, padding).relu()
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                area = x.shape[2] * x.shape[3]
                found.append((unit * (head.clip(min=0) / area).sqrt()).flatten(1))
            return torch.cat(found, 1)


def _layer(alexnet: Mapping[str, Any], linear: Mapping[str, Any], index: int) -> dict[str, Any]:
    name = f"features.{_CONVOLUTIONS[index][0]}"
    head = linear[f"lin{index}.model.1.weight"]
    return {"weight": alexnet[f"{name}.weight"], "bias": alexnet[f"{name}.bias"], "head": head}

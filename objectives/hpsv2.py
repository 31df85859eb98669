"""HPS v2.1: a CLIP fine-tuned on human choices between pictures.

Wu et al. 2023, Human Preference Score v2, arXiv 2306.09341, section 4. The score is the cosine, without CLIP's logit
scale. A picture is resized by its longer edge and padded with black, so that nothing is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from .clip import Clip
from .hosting import Host, awake
from .images import PICTURES, rgb
from .pixels import CLIP_MEAN, CLIP_STD, longest_edge, normalized, to_tensor
from .pretrained import Weights, renamed, versions

if TYPE_CHECKING:
    from PIL.Image import Image

# Patterns of open_clip's names and CLIPModel's names for the same parts, applied in order.
_RENAMED = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
)
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


class Hpsv2(Objective):
    """Human preference for a picture given its prompt: a cosine, about 0.2 to 0.35.

    The published package scores in mixed half precision by default, and removes HTML entities from prompts; this class
    does neither.

    Args:
        model: The hub id or folder that holds `file`.
        revision: The revision of `model` on the hub.
        file: A state dict with open_clip's names: the published file, or the same tensors as safetensors.
        clip: The source of the configuration and the tokenizer of the architecture.
        host: The host of the towers.
    """

    reads = PICTURES

    def __init__(self, *, model: str, revision: str | None, file: str, clip: str, host: Host) -> None:
        self.host = host
        self._weights, self._architecture, self._file = Weights(model, revision), Weights(clip), file
        config, state = self._architecture.load("CLIPConfig"), converted(self._weights.tensors(file))
        self.clip = Clip("hpsv2", host.assemble(self._weights, "CLIPModel", config, state), self._architecture, host)

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures against their prompts. See `Objective.score`."""
        found: NDArray[np.float64] = self.clip.cosines(self.clip.texts(prompts), rgb(outputs), self.pixels)
        return found

    def pixels(self, pictures: Sequence[Image]) -> Any:
        """Preprocess pictures as published, to shape (num_pictures, 3, size, size)."""
        import torch

        size = self.clip.size
        return torch.stack([normalized(longest_edge(to_tensor(p), size), CLIP_MEAN, CLIP_STD) for p in pictures])

    def describe(self) -> dict[str, Any]:
        """Describe weights and preprocessing. See `Objective.describe`."""
        return {
            "weights": {**self._weights.describe(), "file": self._file},
            "architecture": self._architecture.describe(),
            "convention": "cosine",
            "score": "cos",
            "pixels": "antialiased bicubic tensor resize of the longer edge, on black",
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


def converted(state: Mapping[str, Any]) -> dict[str, Any]:
    """Convert open_clip's state dict to CLIPModel's: split queries, keys and values, and transpose the projections."""
    out: dict[str, Any] = {}
    for name, tensor in renamed(state, _RENAMED).items():
        fused = re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name)
        if name in _PROJECTIONS:
            out[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif fused is None:
            out[name] = tensor
        else:
            for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{fused[1]}.self_attn.{letter}_proj.{fused[2]}"] = piece.contiguous()
    return out

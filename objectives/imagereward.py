"""ImageReward: a BLIP whose text tower attends to the picture, and a head trained on human rankings.

Xu et al. 2023, ImageReward, arXiv 2304.05977, section 2.2. The head has five linear layers without activations between
them. Two published constants standardize the scores: those of the training pictures have mean 0 and deviation 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError
from .hosting import Host, awake
from .images import PICTURES, Truncation, rgb
from .pixels import clip_pixels
from .pretrained import Weights, part, renamed, transformers, versions

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
LENGTH = 35  # tokens read of a prompt
HEAD = ("mlp.layers.0", "mlp.layers.2", "mlp.layers.4", "mlp.layers.6", "mlp.layers.7")

# Entries of `med_config.json` that BlipTextConfig has under the same names.
_TEXT_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
    "pad_token_id",
)
# Patterns of the published names of the vision tower, and BlipVisionModel's names for the same parts.
_RENAMED = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)


class ImageReward(Objective):
    """A model of human ratings of a picture given its prompt: about -2 to 2, 0 on average.

    Args:
        model: The hub id or folder that holds `file` and `med_config.json`.
        revision: The revision of `model` on the hub.
        file: The published state dict, or the same tensors as safetensors.
        tokenizer: The source of BERT's tokenizer.
        host: The host of the towers and of the head, which computes in float32.
    """

    reads = PICTURES

    def __init__(self, *, model: str, revision: str | None, file: str, tokenizer: str, host: Host) -> None:
        self._weights, self._reader, self._file = Weights(model, revision), Weights(tokenizer), file
        self.host = host
        state = self._weights.tensors(file)
        vision = part(state, "blip.visual_encoder.")
        if "pos_embed" not in vision or not all(f"{layer}.weight" in state for layer in HEAD):
            raise ScoreError(f"{file} of {model} is no ImageReward: it lacks the vision tower or the head")
        vision_config = self._vision_config(vision)
        self.size = vision_config.image_size
        self.vision = host.assemble(self._weights, "BlipVisionModel", vision_config, renamed(vision, _RENAMED))
        text = part(state, "blip.text_encoder.")
        self.text = host.assemble(self._weights, "BlipTextModel", self._text_config(), text, add_pooling_layer=False)
        names = [f"{layer}.{kind}" for layer in HEAD for kind in ("weight", "bias")]
        self.head = host.hold({name: state[name].float() for name in names})
        self.tokenizer = self._reader.load("AutoTokenizer")
        self._truncation = Truncation("imagereward", LENGTH)

    def _vision_config(self, state: Mapping[str, Any]) -> Any:
        """Derive the sizes of the vision tower from its weights; its attention heads are 64 wide."""
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        return transformers().BlipVisionConfig(
            hidden_size=width,
            intermediate_size=state["blocks.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=depth,
            num_attention_heads=width // 64,
            patch_size=patch,
            image_size=round((state["pos_embed"].shape[1] - 1) ** 0.5) * patch,
            layer_norm_eps=1e-6,  # differs from the default of the class
        )

    def _text_config(self) -> Any:
        path = self._weights.file("med_config.json")
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            sizes = {"encoder_hidden_size": said["encoder_width"], "bos_token_id": None, "sep_token_id": None}
        except (ValueError, KeyError, TypeError):
            raise ScoreError(f"{path} is no configuration of ImageReward's text tower; download it again") from None
        sizes |= {name: said[name] for name in _TEXT_SIZES if name in said}
        return transformers().BlipTextConfig(**sizes, is_decoder=True)  # only a decoder has cross-attention to pictures

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures against their prompts. See `Objective.score`."""
        self._truncation.notice(self.tokenizer, prompts)
        pairs = list(zip(rgb(outputs), prompts, strict=True))
        return np.array(self.host.map(pairs, self._score), dtype=np.float64)

    def _score(self, pairs: Sequence[tuple[Any, str]]) -> NDArray[np.float64]:
        import torch

        pictures, prompts = zip(*pairs, strict=True)
        device = self.host.device
        pixels = torch.stack([clip_pixels(picture, self.size) for picture in pictures])
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        ).to(device)
        with torch.inference_mode():
            seen = self.vision(pixel_values=pixels.to(device, self.host.dtype)).last_hidden_state
            hidden = (
                self.text(
                    input_ids=tokens.input_ids,
                    attention_mask=tokens.attention_mask,
                    encoder_hidden_states=seen,
                    encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=device),
                    is_decoder=False,  # the prompt is attended to in both directions
                )
                .last_hidden_state[:, 0]
                .float()
            )
            for layer in HEAD:
                hidden = torch.nn.functional.linear(hidden, self.head[f"{layer}.weight"], self.head[f"{layer}.bias"])
        raw: NDArray[np.float64] = hidden[:, 0].cpu().numpy().astype(np.float64)
        return (raw - MEAN) / DEVIATION

    def describe(self) -> dict[str, Any]:
        """Describe weights and preprocessing. See `Objective.describe`."""
        return {
            "weights": {**self._weights.describe(), "file": self._file},
            "tokenizer": self._reader.describe(),
            "convention": "standardized",
            "score": f"(head - {MEAN}) / {DEVIATION}",
            "pixels": "bicubic PIL resize of the shorter edge, middle square",
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }

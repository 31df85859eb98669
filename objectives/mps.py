"""MPS, the multi-dimensional preference score: the picture's tokens attend to the prompt's before the comparison.

Zhang et al. 2024, Learning Multi-dimensional Human Preference for Text-to-Image Generation, arXiv 2405.14705,
section 4. Prompt tokens that are unrelated to the condition, a list of words, are masked. This module implements the
cross model on a state dict. Each layer is pre-normalised multi-query cross-attention (Shazeer 2019) in parallel with
SwiGLU, then self-attention with rotary positions (Su et al. 2021) in parallel with SwiGLU.

The published checkpoint is a pickled module. Unpickling runs code, so trimpot does not load it. Convert the checkpoint
once, on a machine that may run foreign code and has the checkpoint's own package installed:

    module = torch.load("MPS_overall_checkpoint.pth", weights_only=False)
    safetensors.torch.save_model(module, "mps.safetensors")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from ..ground.errors import ScoreError
from .clip import PROCESSED, Clip, unit
from .hosting import Host, awake
from .images import PICTURES, rgb
from .pretrained import Weights, part, versions

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)


class Mps(Objective):
    """A model of overall human preference for a picture, about 8 to 13.

    Args:
        model: The folder or hub id that holds `file`.
        revision: The revision of `model` on the hub.
        file: The converted weights, with the names of the published module.
        clip: The source of the configuration, the tokenizer and the image processor of the CLIP inside MPS.
        threshold: The smallest similarity of a prompt token to the condition, relative to the most similar token; less
            similar tokens are masked. The published model has 0.01, the authors' evaluations 0.3.
        host: The host of CLIP and the cross model; the published scores are in half precision. The cross model is
            never quantized.

    Raises:
        ScoreError: If the threshold is outside [0, 1), or the file lacks the cross model.
    """

    reads = PICTURES

    def __init__(
        self,
        *,
        model: str,
        revision: str | None,
        file: str,
        clip: str,
        threshold: float,
        host: Host,
    ) -> None:
        if not 0 <= threshold < 1:
            raise ScoreError(f"mps: threshold is {threshold}, but must be at least 0 and below 1")
        self._weights, self._architecture, self._file = Weights(model, revision), Weights(clip), file
        self.host = host
        self.threshold = threshold
        state = self._weights.tensors(file)
        config = self._architecture.load("CLIPConfig")
        loaded = host.assemble(self._weights, "CLIPModel", config, part(state, "model."))
        self.clip = Clip("mps", loaded, self._architecture, host)
        crossing = part(state, "cross_model.")
        self._cross = host.hold({name: tensor.to(host.dtype) for name, tensor in crossing.items()})
        if "layers.0.0.fn.to_q.weight" not in self._cross:
            raise ScoreError(
                f"{file} of {model} is no MPS: it lacks the cross model; convert the published module whole"
            )
        with host.awake():
            self._condition = self._text([CONDITION])[0].cpu()
        self._read: dict[str, tuple[Any, Any, Any]] = {}

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures against their prompts. See `Objective.score`."""
        self.clip.notice(prompts)
        pairs = list(zip(rgb(outputs), prompts, strict=True))
        return np.array(self.host.map(pairs, self._score), dtype=np.float64)

    def _score(self, pairs: Sequence[tuple[Any, str]]) -> NDArray[np.float64]:
        import torch

        pictures, prompts = zip(*pairs, strict=True)
        texts = zip(*map(self._prompt, prompts), strict=True)
        tokens, ends, masks = (torch.stack(kind).to(self.host.device) for kind in texts)
        model, pixels = self.clip.model, self.clip.processed(pictures)
        with torch.inference_mode():
            hidden = model.vision_model(pixel_values=pixels.to(self.clip.device, self.clip.dtype)).last_hidden_state
            crossed = cross(self._cross, model.visual_projection(hidden), tokens, masks[:, None])[:, 0]
            cosines = (unit(crossed) * unit(ends)).sum(-1)
        return self.clip.scale * np.asarray(cosines.cpu().numpy(), dtype=np.float64)

    def _prompt(self, prompt: str) -> tuple[Any, Any, Any]:
        """Return a prompt's token features, pooled feature, and attention mask (0 or -inf), all in main memory."""
        import torch

        if prompt not in self._read:
            tokens, ends = self._text([prompt])
            with torch.inference_mode():
                near = (self._condition[0].to(tokens.device) @ tokens[0].T).amax(0)
                mask = torch.where(near / near.max() > self.threshold, 0.0, -torch.inf).to(tokens.dtype)
            self._read[prompt] = tokens[0].cpu(), ends[0].cpu(), mask.cpu()
        return self._read[prompt]

    def _text(self, prompts: Sequence[str]) -> tuple[Any, Any]:
        """Return token features, shape (num_prompts, length, width), and pooled ones, shape (num_prompts, width)."""
        import torch

        with torch.inference_mode():
            read = self.clip.model.text_model(input_ids=self.clip.tokens(prompts))
            project = self.clip.model.text_projection
            return project(read.last_hidden_state), project(read.pooler_output)

    def describe(self) -> dict[str, Any]:
        """Describe weights, threshold and preprocessing. See `Objective.describe`."""
        return {
            "weights": {**self._weights.describe(), "file": self._file},
            "architecture": self._architecture.describe(),
            "convention": f"overall condition, threshold {self.threshold}, each prompt by itself",
            "score": "exp(logit_scale) * cos",
            "pixels": PROCESSED,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


def cross(weights: Mapping[str, Any], query: Any, context: Any, mask: Any) -> Any:
    """Apply the cross model.

    Args:
        weights: The state dict of the cross model.
        query: Picture tokens, shape (batch, num_query, width).
        context: Prompt tokens, shape (batch, num_context, width).
        mask: Added to the attention logits; broadcasts to (batch, num_query, num_context).

    Returns:
        Shape (batch, num_query, width).
    """
    depth = 1 + max(int(name.split(".")[1]) for name in weights)
    for index in range(depth):
        first, second = part(weights, f"layers.{index}.0.fn."), part(weights, f"layers.{index}.1.fn.")
        query = query + _attend_context(first, _norm(first, query), context, mask)
        query = query + _attend_self(second, _norm(second, query))
    return query


def _attend_context(weights: Mapping[str, Any], x: Any, context: Any, mask: Any) -> Any:
    keys, values = (context @ weights["to_kv.weight"].T).chunk(2, -1)
    queries = _heads(x @ weights["to_q.weight"].T, keys.shape[-1])
    attended = _attention(queries, keys, values, mask[:, None]) @ weights["to_out.weight"].T
    return attended + _swiglu(x @ weights["ff.0.weight"].T) @ weights["ff.2.weight"].T


def _attend_self(weights: Mapping[str, Any], x: Any) -> Any:
    inner, gated = weights["attn_out.weight"].shape[1], 2 * weights["ff_out.1.weight"].shape[1]
    fused = x @ weights["fused_attn_ff_proj.weight"].T
    width = (fused.shape[-1] - inner - gated) // 2
    queries, keys, values, forward = fused.split((inner, width, width, gated), -1)
    attended = _attention(_rotated(_heads(queries, width)), _rotated(keys), values, 0.0)
    return attended @ weights["attn_out.weight"].T + _swiglu(forward) @ weights["ff_out.1.weight"].T


def _heads(x: Any, width: int) -> Any:
    """Reshape (batch, length, heads * width) to (batch, heads, length, width)."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def _attention(queries: Any, keys: Any, values: Any, mask: Any) -> Any:
    """Compute multi-query attention: all heads share the keys and values."""
    likeness = queries * queries.shape[-1] ** -0.5 @ keys[:, None].transpose(-1, -2) + mask
    return (likeness.softmax(-1) @ values[:, None]).transpose(1, 2).flatten(2)


def _norm(weights: Mapping[str, Any], x: Any) -> Any:
    from torch.nn.functional import layer_norm

    return layer_norm(x, x.shape[-1:], weights["norm.weight"], weights.get("norm.bias"))


def _swiglu(x: Any) -> Any:
    from torch.nn.functional import silu

    values, gate = x.chunk(2, -1)
    return silu(gate) * values


def _rotated(x: Any) -> Any:
    """Rotate pairs (i, i + width / 2) of the last axis by the angle position * 10000 ** (-2 i / width)."""
    import torch

    width, places = x.shape[-1], torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    rates = 10000 ** -(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width)
    angles = (places[:, None] * rates).repeat(1, 2).to(x.dtype)
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()

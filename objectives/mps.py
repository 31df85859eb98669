"""MPS, the multi-dimensional preference score: a picture's tokens attend to the prompt's before they are compared.

Zhang et al. 2024, Learning Multi-dimensional Human Preference for Text-to-Image Generation, arXiv 2405.14705,
section 4. Prompt tokens that have nothing to do with a condition, a list of words, are masked. The cross model is
written here on a plain state dict: pre-normalised multi-query attention (Shazeer 2019) beside a SwiGLU layer, then
the same as self-attention with rotary positions (Su et al. 2021).

The published checkpoint is a pickled module, which is program code and is not loaded here. Convert it once where
code that you did not write may run, with its own package installed:

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
from .images import rgb
from .pretrained import Weights, part, versions

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)


class Mps(Objective):
    """How much people would prefer a picture overall, about 8 to 13.

    Args:
        model: Folder or hub id that holds `file`.
        revision: Of it, on the hub.
        file: The converted weights, in the published module's names.
        clip: Where configuration, tokenizer and image processor of the CLIP inside are.
        threshold: How near a token must be to the condition, as a share of the nearest token, to count. Published
            are 0.01, in the model, and 0.3, in the authors' evaluations.
        host: Holds the whole; the published scores are in half precision. The cross model is never quantized.
    """

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
            raise ScoreError(f"mps: threshold is {threshold}; a share of the nearest token is at least 0 and below 1")
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
        """A prompt's token features, its end's feature, and 0 or minus infinity a token; in main memory."""
        import torch

        if prompt not in self._read:
            tokens, ends = self._text([prompt])
            with torch.inference_mode():
                near = (self._condition[0].to(tokens.device) @ tokens[0].T).amax(0)
                mask = torch.where(near / near.max() > self.threshold, 0.0, -torch.inf).to(tokens.dtype)
            self._read[prompt] = tokens[0].cpu(), ends[0].cpu(), mask.cpu()
        return self._read[prompt]

    def _text(self, prompts: Sequence[str]) -> tuple[Any, Any]:
        """Token features, shape (num_prompts, length, width), and the end's, shape (num_prompts, width)."""
        import torch

        with torch.inference_mode():
            read = self.clip.model.text_model(input_ids=self.clip.tokens(prompts))
            project = self.clip.model.text_projection
            return project(read.last_hidden_state), project(read.pooler_output)

    def describe(self) -> dict[str, Any]:
        """Weights, threshold and preprocessing. See `Objective.describe`."""
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
    """The cross model.

    Args:
        weights: Its state dict.
        query: Shape (batch, num_query, width).
        context: Shape (batch, num_context, width).
        mask: Added to the attention; broadcasts to (batch, num_query, num_context).

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
    """Shape (batch, length, heads * width) as (batch, heads, length, width)."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def _attention(queries: Any, keys: Any, values: Any, mask: Any) -> Any:
    """Every head of the queries looks at the same keys and values."""
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
    """Turn pairs (i, i + width / 2) of the last axis by position times 10000 ** (-2 i / width)."""
    import torch

    width, places = x.shape[-1], torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    rates = 10000 ** -(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width)
    angles = (places[:, None] * rates).repeat(1, 2).to(x.dtype)
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()

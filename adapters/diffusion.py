"""One adapter for every diffusers pipeline whose transformer has known sites.

The stock pipeline's `__call__` runs as it is, without its own guidance: hooks on the transformer make one
ordinary forward pass of it an ensemble, with a candidate's scales in every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from ..engine.bucket import Bucket
from ..engine.knobs import Knob, KnobSpace, Setting
from ..engine.seams import Adapter, Output, Population
from .ensemble import Condition, Ensemble
from .families import Embeddings, family_of
from .sites import Granularity, find_sites, tie

WEIGHT_BOUND = 20.0


class DiffusionAdapter(Adapter):
    """A diffusers pipeline with knobs on its transformer's sites.

    Args:
        pipe: The pipeline, on its device and in its dtype.
        source: What `describe` says of where it came from: `id`, and `revision` or a digest of its weights.
        granularity: How sites are tied into knobs.
        num_inference_steps: Denoising steps an image.
        guidance_scale: Neutral guidance g; the two members' neutral weights are (g, 1 - g).
        guidance_grid: Guidance values among which the neutral side of a comparison is chosen.
        tie_members: Whether both members share their scales.
        height: Image height in pixels, or None for the pipeline's own.
        width: Image width in pixels, or None for the pipeline's own.
        max_sequence_length: Prompt tokens, for pipelines that take it.
        batch_size: The most images in one pipeline call.
        low: Lower bound of every scale.
        high: Upper bound of every scale.
        blocks: Site lines of further block classes.

    Raises:
        ModelError: If the pipeline or its transformer is not covered.
    """

    def __init__(
        self,
        pipe: Any,
        source: Mapping[str, Any],
        *,
        granularity: Granularity = "gate",
        num_inference_steps: int = 15,
        guidance_scale: float = 4.5,
        guidance_grid: Sequence[float] = (),
        tie_members: bool = False,
        height: int | None = None,
        width: int | None = None,
        max_sequence_length: int | None = None,
        batch_size: int = 16,
        low: float = -1.0,
        high: float = 2.0,
        blocks: Mapping[str, str] | None = None,
    ) -> None:
        self.pipe = pipe
        self.family = family_of(pipe)
        self.num_steps = num_inference_steps
        self.guidance_grid = tuple(dict.fromkeys((guidance_scale, *guidance_grid))) if self.family.guidance else ()
        self._source = dict(source)
        self._max_sequence_length = max_sequence_length
        self._size = {"height": height, "width": width}
        self._batch_size = batch_size
        self._sites = find_sites(pipe.transformer, blocks)
        self._members: tuple[Condition, ...] = (
            ("conditional", "unconditional") if self.family.guidance else ("conditional",)
        )
        self._tied = tie(self._sites, granularity)
        self._scopes = member_scopes(len(self._members), tie_members)
        self._granularity = granularity
        scopes = dict.fromkeys(self._scopes)
        scale_knobs = [Knob(scope + name, low, high) for scope in scopes for name in self._tied]
        self.space = KnobSpace(scale_knobs + _weight_knobs(guidance_scale, len(self._members)))
        self._embeddings: dict[str, Embeddings] = {}
        pipe.set_progress_bar_config(disable=True)

    def generate(self, population: Population, bucket: Bucket) -> list[list[Output]]:
        """Make images; rows of different candidates share a pipeline call. See `Adapter.generate`."""
        scales, weights = self._tables(population)
        rows = [(candidate, index) for candidate in range(len(population)) for index in range(len(bucket))]
        images: list[Output] = []
        ensemble = Ensemble(self.pipe.transformer, self._sites, self._members, self.family.conditioning)
        try:
            ensemble.unconditional = self._unconditional()
            for begin in range(0, len(rows), self._batch_size):
                candidates, indices = zip(*rows[begin : begin + self._batch_size], strict=True)
                ensemble.set(scales[list(candidates)], weights[list(candidates)])
                images += self._call(indices, bucket)
        finally:
            ensemble.remove()
        return [images[begin : begin + len(bucket)] for begin in range(0, len(images), len(bucket))]

    def candidates_per_call(self, num_prompts: int) -> int:
        """As many candidates as fill a batch. See `Adapter.candidates_per_call`."""
        return max(1, self._batch_size // num_prompts)

    def _call(self, indices: Sequence[int], bucket: Bucket) -> list[Output]:
        """One call of the stock pipeline for rows of a bucket."""
        embeddings = [self._encoded(bucket.prompts[index]) for index in indices]
        rows = {name: torch.cat([each[name] for each in embeddings]) for name in self.family.embeddings}
        latents = torch.cat([self._noise(bucket.seeds[index]) for index in indices])
        result = self.pipe(
            **rows,
            **self.family.unguided,
            **self._size,
            latents=latents,
            num_inference_steps=self.num_steps,
            output_type="pil",
        )
        return list(result.images)

    def _noise(self, seed: int) -> torch.Tensor:
        """The noise of a seed, the same that `pipe(..., generator=torch.Generator().manual_seed(seed))` draws."""
        pipe = self.pipe
        default = pipe.default_sample_size * pipe.vae_scale_factor
        latents: torch.Tensor = pipe.prepare_latents(
            1,
            pipe.transformer.config.in_channels,
            self._size["height"] or default,
            self._size["width"] or default,
            pipe.transformer.dtype,
            pipe._execution_device,
            torch.Generator().manual_seed(seed),
        )
        return latents

    def _encoded(self, prompt: str) -> Embeddings:
        """A prompt's embeddings, encoded once."""
        if prompt not in self._embeddings:
            with torch.no_grad():
                self._embeddings[prompt] = self.family.encode(self.pipe, prompt, self._max_sequence_length)
        return self._embeddings[prompt]

    def _unconditional(self) -> dict[str, torch.Tensor]:
        empty = self._encoded("") if self.family.guidance else {}
        return {self.family.embeddings[name]: value for name, value in empty.items()}

    def _tables(self, population: Population) -> tuple[torch.Tensor, torch.Tensor]:
        """Spread knobs over members and sites.

        Returns:
            Scales of shape (population_size, num_members, num_sites), float32, and weights of shape
            (population_size, num_members), float64.
        """
        index = {name: position for position, name in enumerate(self.space.names)}
        num_members = len(self._members)
        scales = np.ones((len(population), num_members, len(self._sites)))
        for member, scope in enumerate(self._scopes):
            for knob, sites in self._tied.items():
                scales[:, member, sites] = population[:, [index[scope + knob]]]
        weights = np.ones((len(population), num_members))
        if num_members > 1:
            weights = population[:, [index[f"member{member + 1}.weight"] for member in range(num_members)]]
        device = self.pipe._execution_device
        return (
            torch.tensor(scales, dtype=torch.float32, device=device),
            torch.tensor(np.array(weights), dtype=torch.float64, device=device),
        )

    def describe(self) -> dict[str, Any]:
        """Identify checkpoint, classes, dtype, sizes and schedule. See `Adapter.describe`."""
        return {
            **self._source,
            "pipeline": self.family.pipeline,
            "transformer": type(self.pipe.transformer).__name__,
            "dtype": str(self.pipe.transformer.dtype).removeprefix("torch."),
            "granularity": self._granularity,
            "num_steps": self.num_steps,
            "max_sequence_length": self._max_sequence_length,
            "guidance_grid": list(self.guidance_grid),
            "scheduler": {key: value for key, value in self.pipe.scheduler.config.items() if key[0] != "_"},
            **self._size,
        }

    def neutrals(self) -> dict[str, Setting]:
        """The untouched model at every guidance of the grid. See `Adapter.neutrals`."""
        neutral = self.space.to_setting(self.space.defaults)
        if not self.guidance_grid:
            return {"neutral": neutral}
        return {
            f"guidance {guidance:g}": {**neutral, "member1.weight": guidance, "member2.weight": 1 - guidance}
            for guidance in self.guidance_grid
        }

    def with_steps(self, num_steps: int) -> DiffusionAdapter:
        """The same pipeline at another number of steps; nothing is loaded again."""
        other = copy(self)
        other.num_steps = num_steps
        return other

    def export(self, setting: Setting, neutral: Setting) -> dict[str, Any]:
        """Every member's weight and scales by module. See `Adapter.export`."""
        _, weights = self._tables(self.space.to_vector(setting)[None])
        _, neutral_weights = self._tables(self.space.to_vector(neutral)[None])
        return {
            "transformer": type(self.pipe.transformer).__name__,
            "members": [
                {
                    "sees": condition,
                    "weight": float(weights[0, member]),
                    "neutral_weight": float(neutral_weights[0, member]),
                    "scales": {
                        site.address: float(self._exact(setting, member, site.knob(self._granularity)))
                        for site in self._sites
                    },
                }
                for member, condition in enumerate(self._members)
            ],
        }

    def _exact(self, setting: Setting, member: int, knob: str) -> float:
        """A knob's value in float64, as it was searched."""
        return setting[self._scopes[member] + knob]


def member_scopes(num_members: int, tied: bool) -> tuple[str, ...]:
    """What each member's scale knobs start with: nothing where there is one member or all share them."""
    if num_members == 1 or tied:
        return ("",) * num_members
    return tuple(f"member{member + 1}." for member in range(num_members))


def _weight_knobs(guidance_scale: float, num_members: int) -> list[Knob]:
    if num_members == 1:
        return []
    return [
        Knob("member1.weight", -WEIGHT_BOUND, WEIGHT_BOUND, guidance_scale),
        Knob("member2.weight", -WEIGHT_BOUND, WEIGHT_BOUND, 1 - guidance_scale),
    ]

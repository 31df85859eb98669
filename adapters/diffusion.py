"""The adapter for all named pipeline families: an ensemble replaces the pipeline's own guidance.

The adapter calls the unmodified stock pipeline without guidance. Hooks on the transformer turn each ordinary forward
pass into an ensemble, and each row gets the scales of its candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine.seams import Output
from ..ground.errors import ModelError
from .encodings import PROBE, Encodings, identity_of
from .ensemble import Ensemble
from .families import Embeddings, Family, as_inputs, encode_prompt, family_of, text_encoders_are_gone
from .layout import check_members
from .memory import told
from .options import DiffusionOptions
from .pipelines import PipelineAdapter
from .row_noise import row_noise
from .sizes import check_size, check_steps
from .transformer import TransformerAdapter


class DiffusionAdapter(PipelineAdapter):
    """A diffusers pipeline of a known family with knobs on its transformer's sites.

    Args:
        pipe: The pipeline, on its device and in its dtype.
        source: The pipeline's source, for `describe`: `id`, and `revision` or a digest of its weights.
        options: The adapter's options.

    Raises:
        ModelError: If the pipeline or its transformer is not covered, or already has hooks or is compiled.
    """

    options: DiffusionOptions
    makes = "image"

    def __init__(self, pipe: Any, source: Mapping[str, Any], options: DiffusionOptions) -> None:
        self.family = family_of(pipe)
        self._empty = self.family.empty if options.empty is None else options.empty
        check_size(pipe, options.height, options.width)
        check_steps(pipe, options.num_inference_steps)
        self._encodings = Encodings()
        super().__init__(pipe.transformer, source, options, **_layout(self.family, options, pipe.transformer))
        members = [member for member in self.layout.members if member != "all"]
        ensemble = Ensemble(pipe.transformer, self.layout.sites, members, self.family.conditioning)
        self._ensemble = ensemble
        self._attach(pipe, ensemble)

    def keep_in(self, folder: Path) -> None:
        """Keep embeddings in a file in this folder. See `Adapter.keep_in`."""
        if not text_encoders_are_gone(self.pipe):
            self._encodings.keep_in(folder, self._encoding_identity)

    def _encoding_identity(self) -> dict[str, Any]:
        length, probe = self.options.max_sequence_length, Encodings()
        with told("encode a prompt", self.options):
            probe.get(PROBE, lambda: encode_prompt(self.pipe, self.family, PROBE, length))
        return identity_of(self.pipe, self._source, {"max_sequence_length": length}, probe.checksum())

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode the empty prompt if the ensemble needs it. See `Adapter.prepare`.

        Other prompts are encoded when their first outputs are made. Embeddings take a few mebibytes per prompt and
        are moved to the device with each batch. If the text encoders are to be dropped, all prompts are encoded now.
        """
        self._encode(())
        if self.options.release_text_encoders:
            for prompt in dict.fromkeys(prompts):
                self._encoded(prompt)
            self._encodings.join()
            self._release_text_encoders()

    def _encode(self, prompts: Sequence[str]) -> None:
        """See `PipelineAdapter._encode`."""
        empty = [self._empty] if "unconditional" in self.layout.members else []
        for prompt in (*prompts, *empty):
            if not self._encodings.has(prompt):
                self._encoded(prompt)

    def _call(self, prompts: Sequence[str], seeds: Sequence[int], device: torch.device) -> list[Output]:
        """Call the stock pipeline once; the scales of its rows are already set."""
        if "unconditional" in self.layout.members:
            empty = as_inputs(self.family, self._encoded(self._empty))
            self._ensemble.unconditional = {name: value.to(device) for name, value in empty.items()}
        encoded = {prompt: self._encoded(prompt) for prompt in dict.fromkeys(prompts)}
        embeddings = stacked([encoded[prompt] for prompt in prompts])
        rows = {name: value.to(device) for name, value in embeddings.items()}
        distilled = {self.family.distilled: self.options.guidance_scale} if self.family.distilled else {}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latents = torch.cat([self._noise(generator, rows["prompt_embeds"].dtype, device) for generator in generators])
        with row_noise(self.pipe, generators):
            result = self.pipe(
                **rows,
                **self.family.unguided,
                **distilled,
                height=self.options.height,
                width=self.options.width,
                latents=latents,
                num_inference_steps=self.num_steps,
                output_type="pil",
            )
        return list(result.images)

    def _noise(self, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw a row's initial noise, identical to the first draw of `pipe(..., generator=generator)`."""
        pipe = self.pipe
        default = pipe.default_sample_size * pipe.vae_scale_factor
        latents = pipe.prepare_latents(
            1,
            pipe.transformer.config.in_channels // self.family.packing,
            self.options.height or default,
            self.options.width or default,
            dtype,
            device,
            generator,
        )
        noise: Tensor = latents[0] if isinstance(latents, tuple) else latents
        return noise

    def _encoded(self, prompt: str) -> Embeddings:
        """Return a prompt's embeddings, and encode the prompt at the first request only."""

        def encode() -> Embeddings:
            with told("encode a prompt", self.options):
                return encode_prompt(self.pipe, self.family, prompt, self.options.max_sequence_length)

        embeddings: Embeddings = self._encodings.get(prompt, encode)
        return embeddings

    def describe(self) -> dict[str, Any]:
        """Return everything that can change an output. See `Adapter.describe`."""
        distilled = {"guidance_scale": self.options.guidance_scale} if self.family.distilled else {}
        return {**super().describe(), **distilled}


def outline(
    transformer: Any, family: Family, source: Mapping[str, Any], options: DiffusionOptions
) -> TransformerAdapter:
    """Return an adapter for a family's transformer without weights: it has the same knobs but cannot generate."""
    made = TransformerAdapter(transformer, source, options, **_layout(family, options, transformer))
    made.makes = "image"  # as the pipeline would, so that a plan speaks of images
    return made


def _layout(family: Family, options: DiffusionOptions, transformer: Any) -> dict[str, Any]:
    """Return the arguments by which a family's knobs are laid out."""
    members = options.members or family.members
    check_members(members)
    if type(transformer).__name__ != family.transformer:
        raise ModelError(f"a {family.pipeline} needs a {family.transformer}, not a {type(transformer).__name__}")
    if options.empty is not None and "unconditional" not in members:
        raise ModelError("empty is the prompt of an unconditional member, and there is none; leave it out")
    with torch.device("meta"):
        example = family.example(transformer.config)
    return {
        "members": members,
        "example": example,
        "guided": family.guided and "unconditional" in members,
        "empty": None if options.empty == family.empty else options.empty,
    }


def stacked(rows: Sequence[Embeddings]) -> dict[str, Tensor]:
    """Stack the embeddings of several prompts into one batch, and pad shorter ones with zeros, which masks exclude."""
    batch = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        longest = max(value.shape[1] for value in values)
        filled = [
            torch.cat([value, value.new_zeros(1, longest - value.shape[1], *value.shape[2:])], dim=1)
            if value.shape[1] < longest
            else value
            for value in values
        ]
        batch[name] = torch.cat(filled)
    return batch

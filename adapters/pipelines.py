"""What every adapter that drives a stock pipeline has in common: rows, batches, and hooks that stay."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ..engine.bucket import Bucket
from ..engine.seams import Output, Population
from ..ground.batches import Batches
from ..ground.devices import free_memory, keep_freed_memory
from ..ground.errors import ModelError
from .compiling import compile_transformer
from .decoding import Decoding
from .memory import no_room
from .rows import transformers
from .sizes import check_made
from .transformer import TransformerAdapter


class Hooked(Protocol):
    """What scales a transformer: an `Ensemble`, or the rows of a stock pipeline."""

    def set(self, scales: Tensor | None, weights: Tensor | None) -> None:
        """Set (num_rows, num_members, num_sites) scales and (num_rows, num_members) weights, or idle with None."""

    def remove(self) -> None:
        """Take all hooks off."""


class PipelineAdapter(TransformerAdapter):
    """A transformer within its pipeline.

    Hooks are attached once, before anything is compiled, and are idle but while `generate` works: the pipeline is
    then the stock pipeline to the bit. Adapters made by `with_steps` share hooks, batches and embeddings.
    """

    mixes_buckets = True
    pipe: Any
    _hooked: Hooked
    _batches: Batches

    def _attach(self, pipe: Any, hooked: Hooked) -> None:
        """Take over a pipeline whose transformer has just been hooked."""
        self.pipe = pipe
        self._hooked = hooked
        self._decoding = Decoding(pipe)
        self.outputs_per_call = self.options.batch_size  # not what memory turns out to allow: a resume repeats calls
        self._batches = Batches(
            self.options.batch_size,
            partial(no_room, "for one output at a time", self.options, making=True),
            pipe.maybe_free_model_hooks,  # what is offloaded stays on the device where a call ends early
        )
        for model in transformers(pipe).values():
            compile_transformer(model, self.options.blocks, self.options.compile)
        pipe.set_progress_bar_config(disable=True)
        if pipe._execution_device.type == "cpu":
            keep_freed_memory()

    def _release_text_encoders(self) -> None:
        """Drop them; prompts that are not encoded yet can no longer be."""
        for name in [name for name in self.pipe.components if name.startswith("text_encoder")]:
            setattr(self.pipe, name, None)
        self.pipe.maybe_free_model_hooks()  # the hooks of what is offloaded hold each other's modules
        free_memory()

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> None:
        """Encode those of these prompts that are not encoded yet, and what every batch needs beside them."""

    @abstractmethod
    def _call(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Output]:
        """One call of the stock pipeline, an output a row."""

    def _asked(self) -> Mapping[str, Any]:
        """Sizes that were asked for: `height`, `width` and, of videos, `num_frames`."""
        return {"height": self.options.height, "width": self.options.width}

    def generate(self, population: Population, bucket: Bucket) -> list[list[Output]]:
        """Make outputs of candidates on one bucket. See `Adapter.generate`."""
        return self.generate_each(population, [bucket] * len(population))

    def generate_each(self, population: Population, buckets: Sequence[Bucket]) -> list[list[Output]]:
        """Make outputs; rows of any candidates, prompts and seeds share a pipeline call. See `Adapter.generate_each`.

        A batch that runs out of memory is halved; see `Batches` for what that does to the last bits.
        """
        device = self.pipe._execution_device
        scales, weights = map(torch.from_numpy, self.layout.tables(population))
        scales = scales.float()  # here and not on the way: some devices have no float64
        rows = [
            (candidate, prompt, seed)
            for candidate, bucket in enumerate(buckets)
            for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)
        ]

        self._encode(list(dict.fromkeys(prompt for _, prompt, _ in rows)))  # while no batch takes up memory

        def work(batch: Sequence[tuple[int, str, int]]) -> list[Output]:
            candidates, prompts, seeds = map(list, zip(*batch, strict=True))
            self._hooked.set(scales[candidates].to(device), weights[candidates])
            self._decoding.begin()
            outputs = self._call(prompts, seeds)
            check_made(outputs, self._asked(), type(self.pipe).__name__)
            return self._decoding.settle(outputs)

        try:
            outputs = iter(self._batches.map(rows, work))
        finally:
            self._hooked.set(None, None)
        return [[next(outputs) for _ in bucket.prompts] for bucket in buckets]

    @property
    def largest_batch(self) -> int | None:
        """See `Adapter.largest_batch`."""
        return self._batches.size

    @largest_batch.setter
    def largest_batch(self, size: int | None) -> None:
        self._batches.size = size or self.options.batch_size

    def describe(self) -> dict[str, Any]:
        """Everything that can change an output. See `Adapter.describe`."""
        return {
            **super().describe(),
            "pipeline": type(self.pipe).__name__,
            "dtype": str(self.pipe.transformer.dtype).removeprefix("torch."),
            "num_steps": self.num_steps,
            "height": self.options.height,
            "width": self.options.width,
            "max_sequence_length": self.options.max_sequence_length,
            "compile": self.options.compile,
            "scheduler": {
                "class": type(self.pipe.scheduler).__name__,
                **{key: value for key, value in self.pipe.scheduler.config.items() if key[0] != "_"},
            },
        }

    def with_steps(self, num_steps: int) -> PipelineAdapter:
        """The same pipeline at another number of steps; nothing is loaded again."""
        other = copy(self)
        other.num_steps = num_steps
        return other

    def close(self) -> None:
        """Take the hooks off; the pipeline is the stock pipeline again, and this adapter generates no more."""
        self._hooked.remove()
        self._hooked = _Removed()
        self._decoding.remove()


class _Removed:
    """What is left of hooks that were taken off."""

    def set(self, scales: Tensor | None, _weights: Tensor | None) -> None:
        if scales is not None:
            raise ModelError("this adapter has been closed; make another of its pipeline")

    def remove(self) -> None:
        """There is nothing to take off."""

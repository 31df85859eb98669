"""The common base of all adapters that drive a stock pipeline: rows, batches and permanent hooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

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
from .sizes import check_made, check_steps
from .transformer import TransformerAdapter

if TYPE_CHECKING:
    from typing_extensions import Self


class Hooked(Protocol):
    """The hooks that scale a transformer: an `Ensemble`, or the rows of a stock pipeline."""

    def set(self, scales: Tensor | None, weights: Tensor | None) -> None:
        """Set scales (num_rows, num_members, num_sites) and weights (num_rows, num_members), or idle with None."""

    def remove(self) -> None:
        """Remove all hooks."""


class PipelineAdapter(TransformerAdapter):
    """A transformer in its pipeline.

    Hooks are attached once, before anything is compiled, and are active only during `generate`. At other times, the
    pipeline's outputs are bit-identical to the stock pipeline's. Adapters made by `with_steps` share hooks, batches and
    embeddings.
    """

    mixes_buckets = True
    pipe: Any
    _hooked: Hooked
    _batches: Batches

    def _attach(self, pipe: Any, hooked: Hooked) -> None:
        """Store the pipeline and its hooks, and compile its transformers."""
        self.pipe = pipe
        self._hooked = hooked
        self._decoding = Decoding(pipe)
        self.outputs_per_call = self.options.batch_size  # not the size that fits memory: a resumed run repeats calls
        self._batches = Batches(
            self.options.batch_size,
            partial(no_room, "for one output at a time", self.options, making=True),
            pipe.maybe_free_model_hooks,  # offloaded weights stay on the device if a call fails
        )
        for model in transformers(pipe).values():
            compile_transformer(model, self.options.blocks, self.options.compile)
        pipe.set_progress_bar_config(disable=True)
        if pipe._execution_device.type == "cpu":
            keep_freed_memory()

    def _release_text_encoders(self) -> None:
        """Drop the text encoders; afterwards, no further prompt can be encoded."""
        for name in [name for name in self.pipe.components if name.startswith("text_encoder")]:
            setattr(self.pipe, name, None)
        self.pipe.maybe_free_model_hooks()  # offloading hooks hold each other's modules
        free_memory()

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> None:
        """Encode prompts that are not encoded yet, and everything else that a batch needs."""

    @abstractmethod
    def _call(self, prompts: Sequence[str], seeds: Sequence[int], device: torch.device) -> list[Output]:
        """Call the stock pipeline once, on its device, and return one output per row."""

    def _asked(self) -> Mapping[str, Any]:
        """Return the requested sizes: `height`, `width` and, for videos, `num_frames`."""
        return {"height": self.options.height, "width": self.options.width}

    def generate(self, population: Population, bucket: Bucket) -> list[list[Output]]:
        """Generate outputs of candidates on one bucket. See `Adapter.generate`."""
        return self.generate_each(population, [bucket] * len(population))

    def generate_each(self, population: Population, buckets: Sequence[Bucket]) -> list[list[Output]]:
        """Generate outputs, with any candidates, prompts and seeds in one call. See `Adapter.generate_each`.

        A batch that runs out of memory is halved; see `Batches` for the effect on the last bits.
        """
        device = self.pipe._execution_device  # found once: the pipeline looks through its modules for it
        scales, weights = map(torch.from_numpy, self.layout.tables(population))
        scales = scales.float()  # before moving: some devices have no float64
        rows = [
            (candidate, prompt, seed)
            for candidate, bucket in enumerate(buckets)
            for prompt, seed in zip(bucket.prompts, bucket.seeds, strict=True)
        ]

        self._encode(list(dict.fromkeys(prompt for _, prompt, _ in rows)))  # before a batch takes up memory

        def work(batch: Sequence[tuple[int, str, int]]) -> list[Output]:
            candidates, prompts, seeds = map(list, zip(*batch, strict=True))
            self._hooked.set(scales[candidates].to(device), weights[candidates])
            self._decoding.begin()
            outputs = self._call(prompts, seeds, device)
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
        """Return everything that can change an output. See `Adapter.describe`."""
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

    def with_steps(self, num_steps: int) -> Self:
        """Return an adapter of the same pipeline with another number of steps; nothing is loaded again.

        Raises:
            ModelError: If the pipeline's scheduler cannot make so few.
        """
        check_steps(self.pipe, num_steps)
        return super().with_steps(num_steps)

    def close(self) -> None:
        """Remove the hooks and restore the stock pipeline; this adapter can no longer generate."""
        self._hooked.remove()
        self._hooked = _Removed()
        self._decoding.remove()


class _Removed:
    """A stand-in for hooks that were removed."""

    def set(self, scales: Tensor | None, _weights: Tensor | None) -> None:
        if scales is not None:
            raise ModelError("this adapter has been closed; make a new adapter from its pipeline")

    def remove(self) -> None:
        """Do nothing, because the hooks are already removed."""

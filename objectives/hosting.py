"""Host the models of rewards: their precision, quantization, device, offloading and batch size.

Every reward that runs a model takes these options and gives its models to a host. The host loads, quantizes and moves
the models, and finds a batch size that fits in memory.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PositiveInt

from ..engine.hooks import Factory
from ..engine.seams import Objective
from ..ground.batches import Batches
from ..ground.devices import first_sentence, free_memory, resolve, shortage
from ..ground.errors import ScoreError
from ..ground.extras import require
from ..ground.weights import quiet_import
from .pretrained import Dtype, Weights, transformers

Quantization = Literal["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8", "torchao-float8"]
SHARED = ("cuda", "cuda:0", "mps", "xpu", "xpu:0")  # devices that the backbone uses too, unless told otherwise
Row = TypeVar("Row")
Made = TypeVar("Made")


class Hosting(BaseModel):
    """The options of every reward that runs a model.

    Attributes:
        dtype: The precision of weights and arithmetic, except where a reward documents float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; None selects a CUDA GPU if the machine has one, else the CPU.
        offload: The place of the weights between calls of `score`: the device (`none`), or main memory (`model`), from
            which every call moves them to the device.
        quantization: The quantization of the model's linear layers, done while the model is loaded.
        batch_size: The largest number of pictures in a batch; halved automatically when memory runs out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype = "float32"
    device: str | None = None
    offload: Literal["none", "model"] = "none"
    quantization: Quantization | None = None
    batch_size: PositiveInt = 16


class Host:
    """The host of the models of one reward.

    Args:
        hosting: The options; None uses the defaults.

    Attributes:
        device: The device of the arithmetic.
        dtype: The torch dtype of the arithmetic.

    Raises:
        ScoreError: If the machine has no such device, or options exclude each other.
        MissingError: If a package is missing.
    """

    def __init__(self, hosting: Hosting | None = None) -> None:
        self.hosting = hosting = hosting or Hosting()
        self.device = resolve(hosting.device, ScoreError)
        if hosting.quantization:
            require(f"quantization: {hosting.quantization}", hosting.quantization.partition("-")[0])
        problem = _conflict(hosting, self.device)
        if problem is not None:
            raise ScoreError(problem)
        import torch

        self.dtype = getattr(torch, hosting.dtype)
        self._held: list[Any] = []
        self._batches = Batches(hosting.batch_size, self._no_room)
        self._turn, self._turns = threading.Lock(), 0

    def load(self, weights: Weights, kind: str, **options: Any) -> Any:
        """Load a model and hold it. See `Weights.load`."""
        return self._taken(weights, kind, weights.load(kind, **self._how(), **options))

    def assemble(self, weights: Weights, kind: str, config: Any, state: Mapping[str, Any], **options: Any) -> Any:
        """Build a model from a state dict and hold it. See `Weights.assemble`."""
        return self._taken(weights, kind, weights.assemble(kind, config, state, **self._how(), **options))

    def hold(self, module: Any) -> Any:
        """Hold a module or a dict of tensors, and move it to its place between calls; its dtype is not changed."""
        self._move(module, self.device if self.hosting.offload == "none" else "cpu")
        self._held.append(module)
        return module

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Keep all held models on the device inside the `with` block. Blocks may be nested.

        Raises:
            ScoreError: If the device does not have enough memory.
        """
        offloaded = self.hosting.offload != "none"
        if offloaded:
            with self._turn:
                if not self._turns:
                    self._wake()
                self._turns += 1
        try:
            yield
        except Exception as error:  # libraries report a lack of memory with many classes of error
            if shortage(error) is None:
                raise
            raise self._no_room(error) from None
        finally:
            if offloaded:
                with self._turn:
                    self._turns -= 1
                    if not self._turns:
                        self._sleep()

    def map(
        self,
        rows: Sequence[Row],
        work: Callable[[Sequence[Row]], Iterable[Made]],
        alike: Callable[[Row], Hashable] = lambda _: None,
    ) -> list[Made]:
        """Apply `work` to rows in batches that fit in memory. See `Batches`.

        Args:
            rows: One row for each result.
            work: Computes the results of a batch of rows.
            alike: Computes a key of a row; only rows with equal keys share a batch.

        Returns:
            The results in the order of the rows.
        """
        groups: dict[Hashable, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(alike(row), []).append(index)
        found: dict[int, Made] = {}
        for indices in groups.values():
            made = self._batches.map([rows[index] for index in indices], work)
            found.update(zip(indices, made, strict=True))
        return [found[index] for index in range(len(rows))]

    def describe(self) -> dict[str, Any]:
        """Describe the options that can change a score."""
        quantization = self.hosting.quantization
        return {"dtype": self.hosting.dtype, **({"quantization": quantization} if quantization else {})}

    def _how(self) -> dict[str, Any]:
        """Return the options for `from_pretrained`."""
        how: dict[str, Any] = {"dtype": self.dtype}
        chosen = self.hosting.quantization or ""
        if chosen.startswith("bitsandbytes"):  # bitsandbytes quantizes on a GPU while it loads
            kind = transformers().BitsAndBytesConfig
            how["device_map"] = {"": self.device}
            how["quantization_config"] = (
                kind(load_in_8bit=True)
                if chosen == "bitsandbytes-8bit"
                else kind(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.dtype)
            )
        return how

    def _taken(self, weights: Weights, kind: str, model: Any) -> Any:
        """Quantize a loaded model if the options say so, and hold it."""
        chosen = self.hosting.quantization
        if chosen is None:
            return self.hold(model)
        if chosen.startswith("torchao"):  # not through transformers, which asks for embeddings that some models lack
            with quiet_import():
                from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

                quantize_(model, Int8WeightOnlyConfig() if chosen == "torchao-int8" else Float8WeightOnlyConfig())
        if not any(_is_quantized(module) for module in model.modules()):
            raise ScoreError(f"quantization: {chosen} changed nothing of the {kind} in {weights.model}; leave it out")
        return self.hold(model)

    def _wake(self) -> None:
        try:
            for held in self._held:
                self._move(held, self.device)
        except ScoreError:
            self._sleep()
            raise

    def _sleep(self) -> None:
        for held in self._held:
            self._move(held, "cpu")
        free_memory()

    def _move(self, held: Any, device: str) -> None:
        try:
            if isinstance(held, dict):
                held.update({name: tensor.to(device) for name, tensor in held.items()})
            else:
                held.to(device)
        except Exception as error:  # devices and quantized weights raise many classes of error
            if shortage(error) is not None:
                raise self._no_room(error, f"to hold this reward's model on {device}") from None
            raise ScoreError(f"a reward's model cannot be moved to {device}: {first_sentence(error)}") from error

    def _no_room(self, error: BaseException, what: str = "for one picture at a time") -> ScoreError:
        """Make the error for a lack of memory; it lists the options that save memory and are not chosen yet."""
        found, hosting = shortage(error), self.hosting
        assert found is not None
        choices = []
        if hosting.offload == "none" and self.device != "cpu":
            choices.append("offload: model, for this reward or another one on the device")
        if hosting.quantization is None:
            choices.append("quantization")
        if hosting.dtype == "float32":
            choices.append("dtype: bfloat16")
        choices.append("another device")
        listed = ", ".join(choices[:-1]) + (" or " if choices[1:] else "") + choices[-1]
        return ScoreError(f"there is not enough memory {what}; choose {listed} ({first_sentence(found.error)})")


class _Hosted(Protocol):
    host: Host


Score = TypeVar("Score", bound=Callable[..., Any])


def awake(score: Score) -> Score:
    """Decorate the `score` method of a reward so that its models are on their device during the call."""

    @functools.wraps(score)
    def scored(self: _Hosted, *args: Any, **kwargs: Any) -> Any:
        with self.host.awake():
            return score(self, *args, **kwargs)

    return cast("Score", scored)


def hosted(*, without: Collection[str] = (), **defaults: Any) -> Callable[[Callable[..., Objective]], Factory]:
    """Return a decorator that turns a function whose first parameter is a host into a factory with `Hosting` options.

    Args:
        without: Options of `Hosting` that this reward does not take.
        **defaults: Defaults of this reward that differ from those of `Hosting`.

    Returns:
        The decorator; the factory it makes takes keyword arguments only.
    """
    hints = get_type_hints(Hosting, include_extras=True)
    fields = {name: field.default for name, field in Hosting.model_fields.items() if name not in without} | defaults
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in fields.items()
    ]

    def decorate(make: Callable[..., Objective]) -> Factory:
        own = list(inspect.signature(make, eval_str=True).parameters.values())[1:]

        @functools.wraps(make)
        def factory(**given: Any) -> Objective:
            chosen = {name: given.pop(name, default) for name, default in fields.items()}
            host = Host(Hosting(**chosen))
            made = make(host, **given)
            made.waits = made.waits or host.device in SHARED
            return made

        del factory.__wrapped__  # the wrapped function has another signature
        factory.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        factory.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        return factory

    return decorate


def _conflict(hosting: Hosting, device: str) -> str | None:
    """Return the sentence that says which option cannot be used, or None if all can."""
    if device != "cpu":
        return None
    if hosting.offload != "none":
        return (
            f"offload: {hosting.offload} moves weights between main memory and a GPU, but no GPU is used; "
            "choose offload: none"
        )
    if (hosting.quantization or "").startswith("bitsandbytes"):
        return f"quantization: {hosting.quantization} needs a GPU, but no GPU is used; choose torchao-int8, or none"
    return None


def _is_quantized(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    kinds = (type(module), type(weight), type(getattr(weight, "data", None)))
    return any(kind.__module__.partition(".")[0] in ("torchao", "bitsandbytes") for kind in kinds)

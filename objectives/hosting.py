"""How the models of rewards are hosted: in which precision, on which device, and where they wait between turns.

Every reward that runs a model takes these options and gives its models to a host, which loads, quantizes and moves
them, and finds out how many pictures fit.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
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
from ..ground.weights import quiet_import
from .pretrained import Dtype, Weights, transformers

Quantization = Literal["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8", "torchao-float8"]
SHARED = ("cuda", "cuda:0", "mps", "xpu", "xpu:0")  # devices on which the backbone works too, unless it is told
Row = TypeVar("Row")
Made = TypeVar("Made")


class Hosting(BaseModel):
    """What every reward that runs a model can be told.

    Attributes:
        dtype: Of weights and arithmetic, but for what a reward says it computes in float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; None takes a CUDA GPU if there is one.
        offload: Where weights are while other work is done: on the device (`none`), or in main memory (`model`),
            from where they come to the device for every call of `score`.
        quantization: Of the model's linear layers while it is loaded.
        batch_size: The most pictures at once; halved by itself where memory does not suffice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype = "float32"
    device: str | None = None
    offload: Literal["none", "model"] = "none"
    quantization: Quantization | None = None
    batch_size: PositiveInt = 16


class Host:
    """Holds the models of one reward.

    Args:
        hosting: What was chosen.

    Attributes:
        device: Where the arithmetic happens.
        dtype: The torch dtype of the arithmetic.

    Raises:
        ScoreError: If there is no such device, options exclude each other, or a package is missing.
    """

    def __init__(self, hosting: Hosting | None = None) -> None:
        self.hosting = hosting = hosting or Hosting()
        self.device = resolve(hosting.device, ScoreError)
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
        """Make a model of a state dict and hold it. See `Weights.assemble`."""
        return self._taken(weights, kind, weights.assemble(kind, config, state, **self._how(), **options))

    def hold(self, module: Any) -> Any:
        """Hold a module, or a dict of tensors, whose dtype is its own: bring it to where it waits for its turn."""
        self._move(module, self.device if self.hosting.offload == "none" else "cpu")
        self._held.append(module)
        return module

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Have all that is held on the device for a while. May be nested.

        Raises:
            ScoreError: If there is not enough memory there.
        """
        offloaded = self.hosting.offload != "none"
        if offloaded:
            with self._turn:
                if not self._turns:
                    self._wake()
                self._turns += 1
        try:
            yield
        except Exception as error:  # memory runs out in many classes
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
        """Do work on rows, a batch at a time. See `Batches`.

        Args:
            rows: One for each result.
            work: Makes the results of some of them.
            alike: What rows must have in common to be in one batch.
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
        """What of the choices can change a score."""
        quantization = self.hosting.quantization
        return {"dtype": self.hosting.dtype, **({"quantization": quantization} if quantization else {})}

    def _how(self) -> dict[str, Any]:
        """Options for `from_pretrained`."""
        how: dict[str, Any] = {"dtype": self.dtype}
        chosen = self.hosting.quantization or ""
        if chosen.startswith("bitsandbytes"):  # which quantizes on a GPU, while it loads
            kind = transformers().BitsAndBytesConfig
            how["device_map"] = {"": self.device}
            how["quantization_config"] = (
                kind(load_in_8bit=True)
                if chosen == "bitsandbytes-8bit"
                else kind(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.dtype)
            )
        return how

    def _taken(self, weights: Weights, kind: str, model: Any) -> Any:
        """A model that was just loaded, quantized if it was asked for, and held."""
        chosen = self.hosting.quantization
        if chosen is None:
            return self.hold(model)
        if chosen.startswith("torchao"):  # by itself: transformers asks models for embeddings that some have not
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
        except Exception as error:  # devices and quantized weights fail in many classes
            if shortage(error) is not None:
                raise self._no_room(error, f"to hold this reward's model on {device}") from None
            raise ScoreError(f"a reward's model cannot be moved to {device}: {first_sentence(error)}") from error

    def _no_room(self, error: BaseException, what: str = "for one picture at a time") -> ScoreError:
        """The sentence for memory that ran out: what is not chosen yet and would be accepted."""
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
    """Have a reward's models on their device while it scores."""

    @functools.wraps(score)
    def scored(self: _Hosted, *args: Any, **kwargs: Any) -> Any:
        with self.host.awake():
            return score(self, *args, **kwargs)

    return cast("Score", scored)


def hosted(*, without: Collection[str] = (), **defaults: Any) -> Callable[[Callable[..., Objective]], Factory]:
    """Make a factory of a function whose first parameter is a host, the options of `Hosting` among its own.

    Args:
        without: Options that this reward does not take.
        **defaults: Its own defaults.

    Returns:
        A decorator; what it makes is called with keyword arguments.
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

        del factory.__wrapped__  # its signature is another
        factory.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        factory.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        return factory

    return decorate


def _conflict(hosting: Hosting, device: str) -> str | None:
    """What cannot be had, as a sentence; None where all can."""
    if hosting.quantization:
        package = hosting.quantization.partition("-")[0]
        if importlib.util.find_spec(package) is None:
            return (
                f"quantization: {hosting.quantization} needs the package {package}; install it with: "
                "pip install 'trimpot[quantization]'"
            )
    if device != "cpu":
        return None
    if hosting.offload != "none":
        return (
            f"offload: {hosting.offload} moves weights between main memory and a GPU, and there is no GPU to use; "
            "choose offload: none"
        )
    if (hosting.quantization or "").startswith("bitsandbytes"):
        return (
            f"quantization: {hosting.quantization} needs a GPU, and there is none to use; choose torchao-int8, or none"
        )
    return None


def _is_quantized(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    kinds = (type(module), type(weight), type(getattr(weight, "data", None)))
    return any(kind.__module__.partition(".")[0] in ("torchao", "bitsandbytes") for kind in kinds)

"""Decide how a model and its rewards are placed on a device. The rule, in words, is `RULE`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..ground.errors import ModelError
from .footprint import Footprint
from .machine import GB, Machine, size
from .rewards import Known

RULE = """\
Weights are loaded in bfloat16 (float16 on a GPU without it; float32 on a CPU with room for it). Of the placements
below, the first is taken that leaves room for a batch of 2, or, if there is none, for a batch of 1:
  1. everything on the GPU;
  2. the rewards wait in main memory while images are made;
  3. the components of the model wait there too, and come one at a time (offload: model);
  4. as 3, with the transformer's linear layers in 8 bits (quantization: torchao-int8);
  5. as 3, with the transformer's linear layers in 4 bits (quantization: bitsandbytes-4bit);
  6. as 3 in 16 bits, layer by layer (offload: group), which is slow and fits nearly everywhere.
On a CPU: everything in float32, in bfloat16, and with the transformer in 8 bits.
The batch is the largest of 16, 8, 4, 2 and 1 that fits. Images are decoded one at a time (vae_slicing) if the
autoencoder can. A gigabyte and a twentieth of the memory are left free. The reward is hpsv3 from 48 GB on, and
pickscore below; imagereward, aesthetic and pickscore are watched, unless nothing fits with them. An option that you
give is kept, and the others are chosen to suit it."""

RESERVED = GB  # the driver's own, and what libraries keep
SHARE = 0.95  # of the rest, because memory is used in pieces
SCORING = GB // 2  # what a reward computes with
BATCHES = (16, 8, 4, 2, 1)
ENOUGH = 2  # the batch for which a placement is taken at once
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192, 288)  # GB of common devices
SHORT = 17  # frames, one more than a multiple of 4, 8 and 16, as video autoencoders need
FIXED = ("dtype", "offload", "quantization")
WAIT = "rewards_wait"  # beside the adapter's options in `given`: whether given rewards wait in main memory


@dataclass(frozen=True)
class Placement:
    """A way of placing a model and its rewards.

    Attributes:
        dtype: The dtype of the weights.
        offload: The adapter's option.
        quantization: The adapter's option, or None.
        rewards_wait: Whether rewards wait in main memory between their calls.
        why: What it means, in words.
    """

    dtype: str
    offload: str = "none"
    quantization: str | None = None
    rewards_wait: bool = False
    why: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The adapter's options."""
        quantization = {} if self.quantization is None else {"quantization": self.quantization}
        return {"dtype": self.dtype, "offload": self.offload, **quantization}


@dataclass(frozen=True)
class Fit:
    """How a model and its rewards are placed.

    Attributes:
        placement: Where weights are.
        batch_size: The number of outputs in a call.
        vae_slicing: Whether outputs are decoded one at a time.
        watched: The rewards that are watched.
        device: The most bytes of the device in use.
        main: The most bytes of main memory in use for weights.
        usable: The bytes of the device that the rule allows itself.
    """

    placement: Placement
    batch_size: int
    vae_slicing: bool
    watched: tuple[Known, ...]
    device: int
    main: int
    usable: int


def fit(
    what: Footprint,
    machine: Machine,
    lead: Sequence[Known],
    watched: Iterable[Known] = (),
    given: Mapping[str, Any] | None = None,
    name: str = "the model",
) -> Fit:
    """Decide where a model and its rewards are placed, by `RULE`.

    Args:
        what: What the model takes.
        machine: The device.
        lead: The rewards that are optimised.
        watched: Rewards to watch, if the model fits with them.
        given: Options of the adapter that are given already.
        name: The model's name for error messages.

    Raises:
        ModelError: If it does not fit; the message names the nearest setting that would.
    """
    given, watched = given or {}, tuple(watched)
    for others in (watched, ()):
        found = _first(what, machine, [*lead, *others], given)
        if found is not None:
            rewards = [*lead, *others]
            device = on_device(what, found.placement, found.batch_size, found.vae_slicing, rewards)
            return replace(found, watched=others, device=device, main=in_main(what, found.placement, rewards))
    raise ModelError(_too_small(what, machine, lead, given, name))


def usable(machine: Machine) -> int:
    """Return the bytes of a device that a run may plan with."""
    return math.floor(max(machine.memory - RESERVED, 0) * SHARE)


def placements(machine: Machine, given: Mapping[str, Any], *, quantizable: bool) -> list[Placement]:
    """Return the placements that are tried, in the order of `RULE`, without those that contradict given options."""
    found = [
        each
        for each in _in_order(machine, given.get("dtype"))
        if (quantizable or each.quantization is None)
        and all(getattr(each, key) == given[key] for key in FIXED if key in given)
    ]
    if not found:
        first = next(iter(_in_order(machine, given.get("dtype"))))
        own = {key: given[key] for key in FIXED if key in given}
        found = [replace(first, **own, rewards_wait=machine.is_gpu, why="as you gave it")]
    waits = given.get(WAIT)
    return found if waits is None else [replace(each, rewards_wait=waits) for each in found]


def _in_order(machine: Machine, given: str | None = None) -> Iterator[Placement]:
    """Yield the placements of `RULE` in order, all in the given dtype if there is one."""
    if not machine.is_gpu and given:
        yield Placement(given, why="a CPU has one memory")
        yield Placement(given, quantization="torchao-int8", why=f"{given} does not fit")
        return
    if not machine.is_gpu:
        yield Placement("float32", why="a CPU computes fastest in it")
        yield Placement("bfloat16", why="float32 does not fit")
        yield Placement("bfloat16", quantization="torchao-int8", why="16 bits do not fit")
        return
    dtype = given or ("bfloat16" if machine.bfloat16 else "float16")
    yield Placement(dtype, why="everything fits on the GPU")
    yield Placement(dtype, rewards_wait=True, why="the model fits on the GPU, and the rewards when they score")
    yield Placement(dtype, "model", None, True, "one component at a time fits on the GPU")
    yield Placement(dtype, "model", "torchao-int8", True, "the transformer fits on the GPU in 8 bits")
    yield Placement(dtype, "model", "bitsandbytes-4bit", True, "the transformer fits on the GPU in 4 bits")
    yield Placement(dtype, "group", None, True, "no whole component fits on the GPU, so layers come one at a time")


def _first(what: Footprint, machine: Machine, rewards: Sequence[Known], given: Mapping[str, Any]) -> Fit | None:
    """Return the first placement that fits with a batch of `ENOUGH`, or of 1."""
    quantizable = not given.get("lora") and all(
        each.fixed is None for each in what.components.values() if each.role == "transformer"
    )
    batches = (given["batch_size"],) if given.get("batch_size") else BATCHES
    slicing = bool(given.get("vae_slicing", what.slices))
    tried = placements(machine, given, quantizable=quantizable)
    for least in (min(ENOUGH, max(batches)), 1):
        for placement in tried:
            for batch in batches:
                if batch >= least and fits(what, machine, placement, batch, slicing, rewards):
                    return Fit(placement, batch, slicing, (), 0, 0, usable(machine))
    return None


def fits(
    what: Footprint, machine: Machine, placement: Placement, batch: int, slicing: bool, rewards: Sequence[Known]
) -> bool:
    """Tell whether a placement fits on a device, and what waits into main memory, for each of several devices."""
    if placement.offload != "none" and machine.main is not None:
        waiting = in_main(what, placement, rewards) * machine.many
        if waiting > machine.main * SHARE:
            return False
    return on_device(what, placement, batch, slicing, rewards) <= usable(machine)


def on_device(what: Footprint, placement: Placement, batch: int, slicing: bool, rewards: Sequence[Known]) -> int:
    """Return the most bytes of the device that are in use at once: while encoding, denoising, decoding or scoring."""
    weights = what.weights(placement.dtype, placement.quantization)
    making = {
        "transformer": what.denoising(placement.dtype) * batch,
        "autoencoder": what.decoding(placement.dtype) * (1 if slicing else batch),
    }
    working = {name: making.get(each.role, 0) for name, each in what.components.items()}
    sizes = [each.bytes for each in rewards]
    staying = 0 if placement.rewards_wait else sum(sizes)
    awake = SCORING + (max(sizes, default=0) if placement.rewards_wait else 0)
    if placement.offload == "none":
        return sum(weights.values()) + staying + max(*working.values(), awake)
    if placement.offload == "model":
        return staying + max(*(weights[name] + working[name] for name in weights), awake)
    layers = {name: math.ceil(each.largest * 4.0) for name, each in what.components.items()}
    return staying + max(*(layers[name] + working[name] for name in layers), awake)


def in_main(what: Footprint, placement: Placement, rewards: Sequence[Known]) -> int:
    """Return the bytes of main memory that waiting weights take; all weights come by there when they are loaded."""
    waiting = sum(each.bytes for each in rewards) if placement.rewards_wait else 0
    return sum(what.weights(placement.dtype, placement.quantization).values()) + waiting


def _too_small(what: Footprint, machine: Machine, rewards: Sequence[Known], given: Mapping[str, Any], name: str) -> str:
    """Return the sentence that a model does not fit, with the nearest setting that would."""
    free = {key: value for key, value in given.items() if key not in (*FIXED, "batch_size")}
    batch = given.get("batch_size") or 1
    least = min(
        on_device(what, each, batch, bool(given.get("vae_slicing", True)), rewards)
        for each in placements(machine, given, quantizable=not given.get("lora"))
    )
    begin = (
        f"{name} needs at least {size(least)} of memory, and {machine.name} has {size(usable(machine))} to give"
        if least > usable(machine)
        else f"{name} needs {size(min(in_main(what, each, rewards) for each in _in_order(machine)))} of main memory "
        f"for what waits there, and there are {size(machine.main or 0)}"
    )
    set_here = [key for key in (*FIXED, "batch_size") if given.get(key) is not None]
    if set_here and (other := _first(what, machine, rewards, free)):
        chosen = {**other.placement.options, "batch_size": other.batch_size}
        told = " ".join(f"adapter.{key}={chosen[key]}" for key in set_here if key in chosen)
        return f"{begin}; {told or 'leave out ' + ', '.join(set_here)} would fit"
    if smaller := _smaller(what, machine, rewards, free):
        return f"{begin}; {smaller} would fit"
    return f"{begin}; {_card(what, machine, rewards, free)} would do"


def _smaller(what: Footprint, machine: Machine, rewards: Sequence[Known], given: Mapping[str, Any]) -> str | None:
    """Return the options of the largest smaller output that fits: fewer frames first, then half the sides."""
    if what.frames > SHORT and _first(replace(what, frames=SHORT), machine, rewards, given):
        return f"adapter.num_frames={SHORT}"
    height, width = what.height, what.width
    while min(height, width) >= 512:
        height, width = height // 2, width // 2
        if _first(replace(what, height=height, width=width), machine, rewards, given):
            return f"adapter.height={height} adapter.width={width}"
    return None


def _card(what: Footprint, machine: Machine, rewards: Sequence[Known], given: Mapping[str, Any]) -> str:
    for card in CARDS:
        other = replace(machine, kind="cuda", memory=card * GB, main=None)
        if (card * GB > machine.memory or not machine.is_gpu) and _first(what, other, rewards, given):
            return f"a GPU with {card} GB"
    return "a quantized transformer (adapter.transformer=FILE.gguf) on a larger GPU"


def told(chosen: Fit) -> dict[str, Any]:
    """Return a fit as plain values."""
    return {**asdict(chosen), "watched": [each.name for each in chosen.watched]}

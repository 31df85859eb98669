"""The rewards of a run for which none are given: one to optimise, and others to watch for the alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .machine import GB, Machine


@dataclass(frozen=True)
class Known:
    """A built-in reward of pictures.

    Attributes:
        name: The registered name.
        bytes: What its weights take in the dtype that it runs in unless told otherwise.
        about: What it measures.
    """

    name: str
    bytes: int
    about: str


# Sizes by the numbers of parameters of the published checkpoints: CLIP ViT-H/14 986M, BLIP-L with BERT 448M, CLIP
# ViT-L/14 428M, Qwen2-VL-7B 8.29G with a head of 3.7M.
PICKSCORE = Known("pickscore", 3_944_000_000, "human preference")
HPSV3 = Known("hpsv3", 16_600_000_000, "human preference, judged by a 7B vision-language model")
IMAGEREWARD = Known("imagereward", 1_790_000_000, "human ratings")
AESTHETIC = Known("aesthetic", 1_710_000_000, "looks, whatever the prompt")
CLIPSCORE = Known("clipscore", 1_710_000_000, "likeness of picture and prompt")
HPSV2 = Known("hpsv2", 3_944_000_000, "human preference")
KNOWN = {each.name: each for each in (PICKSCORE, HPSV3, IMAGEREWARD, AESTHETIC, CLIPSCORE, HPSV2)}
LARGE = 47 * GB  # of a device's memory: a card of 48 GB, which has a little less to give


def leading(machine: Machine) -> tuple[Known, str]:
    """Return the reward to optimise on a machine, and the reason."""
    if machine.is_gpu and machine.memory >= LARGE:
        return HPSV3, "the nearest to human preference of all, from 48 GB on"
    return PICKSCORE, f"human preference in {PICKSCORE.bytes / GB:.0f} GB, so that it fits beside the model"


def worth_watching(lead: Known) -> tuple[Known, ...]:
    """Return the rewards to watch beside the one that is optimised, the most wanted first."""
    return tuple(each for each in (PICKSCORE, IMAGEREWARD, AESTHETIC) if each is not lead)


def sized(objectives: Any) -> tuple[list[Known], list[str]]:
    """Return the rewards in a configuration's `objectives` with known sizes, and the names of those without one."""
    if isinstance(objectives, str):
        objectives = {objectives: {}}
    if not isinstance(objectives, Mapping):
        return [], []
    found, unknown = [], []
    for key, options in objectives.items():
        name = options.get("name", key) if isinstance(options, Mapping) else key
        here = not isinstance(options, Mapping) or options.get("device") is None
        if name in KNOWN and here:
            found.append(KNOWN[name])
        elif name not in KNOWN:
            unknown.append(str(name))
    return found, unknown


def entry(known: Known, *, weight: float | None = None, waits: bool) -> dict[str, Any]:
    """Return a reward's entry in a configuration."""
    return {**({} if weight is None else {"weight": weight}), **({"offload": "model"} if waits else {})}

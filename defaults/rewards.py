"""The rewards of a run for which none are given: one to optimise, and others to watch for the alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..setup.plugins import plugins
from .machine import GB, Machine, size


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
NOT_OF_PICTURES = {"remote", "value"}  # built-in rewards that may score anything
LARGE = 47 * GB  # of a device's memory: a card of 48 GB, which has a little less to give


def leading(machine: Machine) -> tuple[Known, str]:
    """Return the reward to optimise on a machine, and the reason."""
    if machine.is_gpu and machine.memory >= LARGE:
        return HPSV3, "the nearest to human preference, from 48 GB on"
    return PICKSCORE, f"human preference in {size(PICKSCORE.bytes)}, which fits beside the model"


def worth_watching(lead: Known) -> tuple[Known, ...]:
    """Return the rewards to watch beside the one that is optimised."""
    return tuple(each for each in (PICKSCORE, IMAGEREWARD, AESTHETIC) if each is not lead)


def names_of(objectives: Any) -> list[str]:
    """Return the registered names of the rewards in a configuration's `objectives`."""
    return [str(each.get("name") or key) for key, each in _entries(objectives).items()]


def score_pictures(names: Iterable[str]) -> bool:
    """Tell whether rewards all score pictures, as the built-in ones do; of others, nothing is known."""
    known = {each.name for each in plugins().registrations("objectives") if each.origin == "trimpot"}
    return set(names) <= known - NOT_OF_PICTURES


def sized(objectives: Any) -> list[Known]:
    """Return the rewards in a configuration's `objectives` that are known and share the model's device.

    Others count as nothing: a plugin's own reward may take any memory.
    """
    return [
        KNOWN[name]
        for name, each in zip(names_of(objectives), _entries(objectives).values(), strict=True)
        if name in KNOWN and each.get("device") is None
    ]


def all_wait(objectives: Any) -> bool:
    """Tell whether all rewards in a configuration's `objectives` wait in main memory."""
    entries = _entries(objectives).values()
    return bool(entries) and all(each.get("offload") == "model" for each in entries)


def entry(*, weight: float | None = None, waits: bool) -> dict[str, Any]:
    """Return the options of a reward in a configuration."""
    return {**({} if weight is None else {"weight": weight}), **({"offload": "model"} if waits else {})}


def _entries(objectives: Any) -> dict[str, Mapping[str, Any]]:
    """Return the options of each reward by its key; malformed entries, which are refused later, have none."""
    if isinstance(objectives, str):
        return {objectives: {}}
    entries = objectives if isinstance(objectives, Mapping) else {}
    return {str(key): each if isinstance(each, Mapping) else {} for key, each in entries.items()}

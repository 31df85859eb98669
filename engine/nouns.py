"""What the outputs of a backbone are called: images, videos, answers, or outputs if nothing more is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NOUNS = {"image": "images", "video": "videos", "text": "answers"}
#: A key that counts outputs, as stored configurations name it, to its general name, which may be written as well.
ALSO = {"images": "outputs", "every_images": "every_outputs"}
COUNTING = ("budget", "validation")  # the sections of a configuration with keys that count outputs


def noun(makes: str | None) -> str:
    """Return what the outputs of a backbone are called; see `Adapter.makes`."""
    return NOUNS.get(str(makes), "outputs")


def common(makes: Iterable[str | None]) -> str:
    """Return what the outputs of several backbones are called: outputs, if these make different things."""
    found = set(makes)
    return noun(found.pop()) if len(found) == 1 else noun(None)


def one(outputs: str) -> str:
    """Return a noun in the singular: `image` for `images`."""
    return outputs.removesuffix("s")


def one_of(outputs: str) -> str:
    """Return a noun in the singular with its article: `an image` for `images`."""
    return f"{'an' if outputs[0] in 'aio' else 'a'} {one(outputs)}"


def told_key(key: str, outputs: str) -> str:
    """Return a stored key of a configuration by the name that fits the outputs: `budget.outputs` of answers."""
    head, dot, last = key.rpartition(".")
    return key if outputs == NOUNS["image"] else f"{head}{dot}{ALSO.get(last, last)}"


def told_config(config: Mapping[str, Any], outputs: str) -> dict[str, Any]:
    """Return a stored configuration as it is shown, with every key by the name that fits the outputs."""
    return {
        key: {told_key(name, outputs): each for name, each in value.items()}
        if key in COUNTING and isinstance(value, Mapping)
        else value
        for key, value in config.items()
    }


def by_stored_names(values: Mapping[str, Any], fields: Iterable[str]) -> Mapping[str, Any]:
    """Return values with every key by the name under which it is stored.

    Args:
        values: The values of a section, as they were written.
        fields: The keys of the section.

    Raises:
        ValueError: If a key is given by both its names.
    """
    for key in ALSO.keys() & set(fields):
        other = ALSO[key]
        given = [values[name] for name in (key, other) if values.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"{other} and {key} are two names of one key; leave one of them out")
        if other in values:
            values = {**{k: v for k, v in values.items() if k not in (key, other)}, key: next(iter(given), None)}
    return values

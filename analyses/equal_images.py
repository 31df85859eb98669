"""Searches on one budget of images, so that what they find can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..comparison.design import equal_keys, merged
from ..engine.search import SEARCH_STAGES
from ..ground.errors import ConfigError
from ..setup.assembly import assemble
from ..setup.config import Config, expanded, load_config, plugins_of
from ..setup.plan import planned_work
from ..storage import SqliteStore
from .target import Target

CHECKS = 16  # of recommendations in each search, at equal intervals of images


def on_equal_images(config: Config, images: int, seed: int, changes: Mapping[str, Any] | None = None) -> Config:
    """Return a configuration whose search makes so many images, and stops for no other reason.

    Args:
        config: A configuration.
        images: Number of images of the search.
        seed: The seed of the search.
        changes: Other changes, by dotted keys.

    Raises:
        ConfigError: If the configuration cannot be run.
    """
    values = {key: value for key, value in config.model_dump(mode="json").items() if value is not None}
    if config.measures:  # of a calibration's file, of which nothing is begun here
        values = {key: value for key, value in values.items() if key not in ("start", "generations", "optimizer")}
    changed = merged(expanded(values), {**(changes or {}), **equal_keys(images, CHECKS, seed)})
    if changed.get("ladder"):  # the last rung goes on until the images are spent
        changed["ladder"] = {**changed["ladder"], list(changed["ladder"])[-1]: images}
    return load_config(changed)


def images_of(target: Target, asked: int | None, store: SqliteStore) -> int:
    """Return the number of images of every search: what was asked for, or the target's own.

    Args:
        target: The target.
        asked: The option `outputs`, or None.
        store: The open store.

    Raises:
        ConfigError: If neither says it.
    """
    if asked is not None:
        return asked
    if target.config.budget.images is not None:
        return target.config.budget.images
    row = next((row for row in store.runs() if row.id == target.text and row.outcome is not None), None)
    if row is None or not row.config["generations"]:
        raise ConfigError("say how many images each search may make, such as outputs=1600")
    return searched(store, row.id)


def searched(store: SqliteStore, run: str) -> int:
    """Return the number of images of a run's search, made or found: what a budget of images counts."""
    return sum(each.num_images + each.found_images for each in store.spent(run) if each.stage in SEARCH_STAGES)


def planned(target: Target, config: Config) -> int:
    """Return the most work of a run, without loading a backbone: denoising steps of all its images.

    Raises:
        TrimpotError: If a run with this configuration could not begin.
    """
    return planned_work(assemble("", config, plugins_of(config), outline=True, prompts=target.prompts))


def seeds_from(asked: int | tuple[int, ...], first: int = 0) -> tuple[int, ...]:
    """Return the seeds of searches: as many from `first`, or those listed."""
    return tuple(range(first, first + asked)) if isinstance(asked, int) else tuple(dict.fromkeys(asked))

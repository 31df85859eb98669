"""The prompts of a run, and what its parts are told about them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine.bucket import PromptSet
from ..engine.knobs import digest
from ..engine.seams import Adapter, Objective
from ..engine.vetting import blamed, who_made
from ..ground.errors import ConfigError, Notice, ScoreError, TrimpotError
from ..ground.plain import quoted
from .config import Config
from .plugins import Plugins

#: What a text may come with: what that is, and how a language model is asked for it.
HELD: Mapping[str, tuple[str, str]] = {
    "written": ("texts that the model wrote", "set mode: generate, or choose exact-match or a reward of likelihoods"),
    "reference": ("how likely the answer is", "set mode: likelihood"),
    "options": ("how likely each of the options is", "set mode: likelihood"),
    "divergence": ("the divergence from the neutral model", "set mode: likelihood and divergence: true"),
}


def prompts_for(config: Config, plugins: Plugins) -> PromptSet:
    """Make the prompts of a run, with its watched prompts.

    Raises:
        ConfigError: If prompts are empty or shared.
    """
    made: PromptSet = plugins.make("prompts", config.prompts.name, config.prompts.options)
    parts = {name: config.watch[name].prompts for name in config.watching}
    watched = {name: plugins.make("prompts", part.name, part.options) for name, part in parts.items()}
    return replace(made, watched=watched) if watched else made


def tell_of_shared(prompts: PromptSet) -> None:
    """Warn if watched prompts serve the search as well, which is what they must be apart from."""
    searched = {*prompts.train, *prompts.validation}
    for name, each in prompts.watched.items():
        used = {*each.held_out}
        if seen := searched & used:
            warnings.warn(
                f"watch.{name}: {len(seen)} of its {len(used)} prompts are among those that the search is given, such "
                f"as {min(seen)[:60]!r}, so they do not tell what else changes; give others",
                Notice,
                stacklevel=3,
            )


def told_of(made: dict[str, Any], part: Adapter | Objective, prompts: PromptSet) -> dict[str, Any]:
    """Add a digest of the prompts' metadata to the description of a part that takes it; see `Run.context_of`."""
    counts = part.takes_metadata and prompts.metadata
    return {**made, "metadata": digest(prompts.metadata)} if counts else made


def tell_metadata(
    adapter: Adapter | None, objectives: Mapping[str, Objective], prompts: PromptSet, config: Config | None = None
) -> None:
    """Give the adapter and every objective the metadata of the prompts, before they work or describe themselves.

    The adapter then checks the prompts.

    Args:
        adapter: The backbone, or None if only objectives are told.
        objectives: The rewards by name.
        prompts: The prompts of the run.
        config: Says which objectives score watched prompts; None if none is watched.

    Raises:
        ConfigError: If a prompt lacks metadata that an objective needs which scores it, or an objective cannot score
            what the adapter makes.
        ModelError: If the adapter cannot use the metadata or a prompt.
        ScoreError: If an objective cannot use the metadata.
    """
    metadata = prompts.all_metadata
    if adapter is not None:
        for name, objective in objectives.items():
            if problem := unreadable(adapter, name, objective):
                raise ConfigError(problem)
        with blamed(who_made(adapter, "the adapter")):
            adapter.take_metadata(metadata)
            adapter.take_prompts(prompts)
            adapter.check_prompts(prompts.all)
    for name, objective in objectives.items():
        _refuse_lacking(name, objective, _scored_by(name, prompts, config), metadata)
        try:
            objective.prepare(metadata)
        except TrimpotError:
            raise
        except Exception as error:  # a plugin's reward may raise anything
            raise ScoreError(
                f"objective {name!r} failed on the metadata of the prompts: {type(error).__name__}: {error}"
            ) from error


def unreadable(adapter: Adapter, name: str, objective: Objective) -> str | None:
    """Return a sentence that says why an objective cannot score what an adapter makes; None if it can, as far as known.

    Args:
        adapter: The backbone.
        name: The name of the objective.
        objective: The reward.
    """
    media = [each for each in objective.reads if each not in HELD]
    if adapter.makes is None or not media:
        return None
    who = f"objective {name!r}"
    if adapter.makes not in media:
        return (
            f"{who} scores {' and '.join(f'{each}s' for each in media)}, and {who_made(adapter, 'the adapter')} makes "
            f"{adapter.makes}s; choose a reward of what is made"
        )
    absent = [each for each in objective.reads if each in HELD and each not in (adapter.holds or (each,))]
    if absent:
        needs, ask = HELD[absent[0]]
        return f"{who} needs {needs}, which {who_made(adapter, 'the adapter')} does not give as it is set; {ask}"
    return None


def _scored_by(name: str, prompts: PromptSet, config: Config | None) -> tuple[str, ...]:
    """Return the prompts that an objective scores."""
    own = () if config and name in config.only_watching else (*prompts.train, *prompts.held_out)
    watching = {key: each for key, each in config.watching.items() if name in each} if config else {}
    return (*own, *(prompt for key in watching for prompt in prompts.watched[key].held_out))


def _refuse_lacking(
    name: str, objective: Objective, scored: Sequence[str], metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    for key in objective.needs:
        without = [prompt for prompt in scored if metadata.get(prompt, {}).get(key) is None]
        if without:
            raise ConfigError(
                f"objective {name!r} needs the `{key}` of every prompt, and {len(without):,} of {len(scored):,} "
                f"prompts have none, such as {quoted(without[0])}; give it in the records of the prompt files"
            )
    for prompt in scored if "reference" in objective.reads else ():
        known = metadata.get(prompt, {})
        if known.get("options") is not None and known.get("answer") is None:
            raise ConfigError(
                f"objective {name!r} needs the `answer` of every prompt that has options, and the record of "
                f"{quoted(prompt)} has none; give it in the prompt file"
            )

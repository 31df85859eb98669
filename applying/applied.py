"""Apply a calibration to a stock pipeline in one line."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch

from ..adapters.ensemble import Condition, Ensemble, OwnGuidance
from ..adapters.families import Family, as_inputs, encode_prompt, family_with
from ..adapters.likeness import warning
from ..adapters.pipelines import Hooked
from ..adapters.rows import StackedRows, transformer_of, transformers, unwrapped
from ..adapters.scaling import is_compiled
from ..adapters.sites import Site
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, ConfigError, ModelError, Notice, near_misses
from ..ground.plain import number
from . import callers
from .asking import Asking
from .located import located_calibration
from .recipe import Recipe, longest_prompt, mixed, recipe_of, sites_of
from .recommended import departures, other_scheduler, recommended_call, without_effect


class _Part(NamedTuple):
    """One of the calibrations that are applied together."""

    calibration: Calibration
    recipe: Recipe


class AppliedCalibration:
    """A calibration applied to a pipeline until `remove` is called. Also a context manager.

    Attributes:
        calibration: The artifact.
        recommended: The arguments of the pipeline's call that the calibration was measured with: steps, size, longest
            prompt, guidance. `pipe("a prompt", **calibration.recommended)` is the whole call.
        strength: 0 gives the neutral model at its best guidance, 1 the calibrated model.
        weights: The weight of each calibration by name, if others were added with `add`; else 1 for the only one.
        enabled: Whether the calibration acts; see `disable` and `enable`.
    """

    def __init__(self, pipe: Any, calibration: Calibration, strength: float) -> None:
        strength = number(strength, "strength", low=-1, high=2, error=CalibrationError)
        self.calibration = calibration
        recipe = recipe_of(calibration)
        transformer: Any = unwrapped(transformer_of(pipe))
        if transformer is not None and any(map(is_compiled, transformers(pipe).values())):
            raise CalibrationError("the transformer is compiled already; apply the calibration, then compile")
        kind = type(transformer).__name__
        if kind != recipe.transformer:
            raise CalibrationError(f"this calibration is for a {recipe.transformer}, the pipeline has a {kind}")
        sites = sites_of(transformers(pipe), recipe)
        self.recommended = recommended_call(calibration, pipe)
        _compare(pipe, calibration, recipe, stacklevel=5)  # before hooks are attached: a warning may be an error
        self._hooked = _hooked(pipe, sites, recipe, longest_prompt(calibration))
        self._pipe = weakref.ref(pipe)
        self._parts = {calibration.provenance.run: _Part(calibration, recipe)}
        self._weights = dict.fromkeys(self._parts, 1.0)
        self._strength, self._enabled, self._removed = strength, True, False
        self._watch = transformer.register_forward_pre_hook(self._departs)
        self._saving = transformer.register_state_dict_pre_hook(_tell_saving)
        self._set()

    @property
    def strength(self) -> float:
        """The fraction of the calibration that is applied."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = number(strength, "strength", low=-1, high=2, error=CalibrationError)
        self._set()

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each applied calibration, by name."""
        return dict(self._weights)

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        for name in weights:
            if name not in self._parts:
                raise CalibrationError(f"no calibration {name!r} is applied; {near_misses(name, self._parts)}")
        checked = {
            name: number(weight, f"the weight of {name!r}", low=-1, high=2, error=CalibrationError)
            for name, weight in weights.items()
        }
        self._weights = {name: checked.get(name, 0.0) for name in self._parts}
        self._set()

    def add(self, source: str | os.PathLike[str], weight: float = 1.0, *, name: str | None = None) -> None:
        """Apply a further calibration of the same model: departures from neutral are summed, each with its weight.

        The sum was not measured: `recommended` stays that of the first calibration.

        Args:
            source: As for `load_calibration`.
            weight: The weight, from -1 to 2; `weights` changes it later.
            name: The name in `weights`; default: the name of the calibration's run.

        Raises:
            CalibrationError: If it cannot be read, is of another model or ensemble, or the name is taken.
        """
        pipe = self._pipe()
        if self._removed or pipe is None:
            raise CalibrationError("this calibration has been removed; load it again")
        weight = number(weight, "weight", low=-1, high=2, error=CalibrationError)
        calibration = Calibration.load(located_calibration(source))
        name = name or calibration.provenance.run
        if name in self._parts:
            raise CalibrationError(f"a calibration {name!r} is applied already; give another name=")
        try:
            recipe = recipe_of(calibration)
            both = mixed([*(part.recipe for part in self._parts.values()), recipe], [0.0] * (len(self._parts) + 1))
            sites = sites_of(transformers(pipe), both)
        except (CalibrationError, ModelError) as error:
            raise CalibrationError(f"{source} cannot be added: {error}") from None
        _compare(pipe, calibration, recipe, stacklevel=3)
        self._hooked.remove()
        self._hooked = _hooked(pipe, sites, both, longest_prompt(self.calibration))
        self._parts[name], self._weights[name] = _Part(calibration, recipe), weight
        self._set()

    def asked(self, prompt: str) -> str | list[dict[str, str]]:
        """Return a prompt as it was put to the language model when the calibration was measured.

        Args:
            prompt: The prompt.

        Returns:
            The text to tokenize, with its format and examples; or the messages for the tokenizer's
            `apply_chat_template`, if it was a chat.
        """
        [first, *_] = self._parts.values()
        return (first.recipe.asking or Asking()).asked(prompt)

    @property
    def enabled(self) -> bool:
        """Whether the calibration acts on the pipeline."""
        return self._enabled and not self._removed

    def disable(self) -> None:
        """Let the pipeline run as if no calibration were applied, until `enable` is called."""
        self._enabled = False
        self._set()

    def enable(self) -> None:
        """Let the calibration act again.

        Raises:
            CalibrationError: If it has been removed.
        """
        if self._removed:
            raise CalibrationError("this calibration has been removed; load it again")
        self._enabled = True
        self._set()

    def remove(self) -> None:
        """Remove the calibration and restore the pipeline."""
        self._removed = True
        self._hooked.remove()
        self._watch.remove()
        self._saving.remove()

    def _set(self) -> None:
        """Give the hooks the scales and weights of the strength, or none."""
        if self._removed:
            return
        if not self._enabled:
            self._hooked.set(None, None)
            return
        weights = [self._strength * self._weights[name] for name in self._parts]
        members = mixed([part.recipe for part in self._parts.values()], weights).members
        scales = [list(member.scales.values()) for member in members]
        sums = [member.weight for member in members]
        self._hooked.set(torch.tensor([scales], dtype=torch.float32), torch.tensor([sums], dtype=torch.float64))

    def _departs(self, _model: Any, _args: Any) -> None:
        """Warn once if the calling pipeline is called unlike the calibration was measured."""
        if torch.compiler.is_compiling() or not self._enabled:
            return
        call = callers.pipeline_call()
        found = departures(call, self.recommended, without_effect(self.calibration)) if call else []
        if found:
            self._watch.remove()
            warnings.warn(
                f"the pipeline is called with {', '.join(found)}, which is not what this calibration was measured "
                "with; call it with **calibration.recommended",
                Notice,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        made = self.calibration
        state = "removed" if self._removed else "" if self._enabled else "disabled"
        several = ", ".join(f"{name} {weight:g}" for name, weight in self._weights.items() if len(self._weights) > 1)
        said = [f"gain {made.told_gain}", f"strength {self._strength:g}", several and f"weights {several}", state]
        return (
            f"<AppliedCalibration {made.provenance.run}: {len(made.setting)} knobs of {made.backbone.get('id')}, "
            f"{', '.join(filter(None, said))}>"
        )

    def __enter__(self) -> AppliedCalibration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()


def load_calibration(
    pipe: Any, source: str | os.PathLike[str], strength: float = 1.0, *, revision: str | None = None
) -> AppliedCalibration:
    """Apply a calibration to a stock pipeline of diffusers, or to a language model of transformers.

    Call the pipeline with the arguments that the calibration was measured with: `**calibration.recommended`. If the
    calibration has an unconditional member, its weights replace the pipeline's guidance, and the guidance argument has
    no effect; the recommended value of 1 saves time. A negative prompt still works in pipelines
    that guide in one forward pass, such as Stable Diffusion 3 with a `guidance_scale` above 1, unless the calibration
    was made with a prompt for no prompt of its own (the adapter's option `empty`). Pipelines that guide in two forward
    passes accept only the negative prompt that the calibration was made with.
    Pass guidance as before if it is distilled into the model, if the adapter `diffusers` left it to the pipeline, or
    if all members see the prompt: each forward pass of the pipeline is then scaled and summed.

    The calibration is attached to the transformer. Other pipelines that share the transformer are therefore
    calibrated too, each at its own guidance, and a copy of the pipeline keeps the calibration. The pipeline may be
    moved or offloaded, and LoRAs may be loaded, before or after. Compile only afterwards.

    Args:
        pipe: A pipeline whose transformer has the class that the calibration was made for; or a language model of
            transformers, or its pipeline, whose calls, `generate` included, are then scaled.
        source: A calibration file, a folder that holds a `calibration.json`, the name of a run, or a hub id.
        strength: 0 gives the neutral model at its best guidance, 1 applies the calibration in full; other values
            from -1 to 2 interpolate or extrapolate.
        revision: The calibration's branch, tag or commit on the hub.

    Warns:
        Notice: If the transformer's weights or LoRA, or the scheduler, differ from those of the calibrated model, or if
            the weights cannot be compared, for example because the transformer is quantized; and, once, if the
            pipeline is called with other steps, sizes or guidance than recommended.

    Returns:
        The applied calibration; call `.remove()` to remove it.

    Raises:
        CalibrationError: If the file cannot be read or does not fit the pipeline, which stays untouched.

    Example:
        >>> pipe = load_pipeline("shapes-1")
        >>> calibration = load_calibration(pipe, "shapes-1")
        >>> pipe("two red circles", **calibration.recommended).images[0].show()
        >>> calibration.remove()
    """
    found = Calibration.load(located_calibration(source, revision=revision))
    try:
        return AppliedCalibration(pipe, found, strength)
    except (ConfigError, ModelError) as error:
        raise CalibrationError(f"{source} does not fit this pipeline: {error}") from None


def _compare(pipe: Any, calibration: Calibration, recipe: Recipe, stacklevel: int) -> None:
    """Warn if a pipeline is not, or may not be, the one that a calibration was made on."""
    weights = recipe.weights.model_dump() if recipe.weights else {}
    models = {prefix: unwrapped(model) for prefix, model in transformers(pipe).items()}
    named = pipe if hasattr(pipe, "name_or_path") else models[""]
    likeness = warning(named, models, calibration.backbone, weights)
    for told in (likeness, _told(other_scheduler(pipe, calibration)), _told_asking(recipe)):
        if told:
            warnings.warn(told, Notice, stacklevel=stacklevel)


def _tell_saving(_model: Any, _prefix: str, _keep_vars: bool) -> None:
    """Warn if the weights of a calibrated transformer are being saved, since the calibration is not among them."""
    if callers.is_saving():
        warnings.warn(
            "the weights are saved without the calibration, which is no part of them; `trimpot export --as baked` "
            "writes weights that hold it",
            Notice,
            stacklevel=2,
        )


def _told_asking(recipe: Recipe) -> str:
    """Return a sentence on what a language model's calibration was measured with beside its scales, or nothing."""
    told = recipe.asking.told if recipe.asking else ""
    return told and (
        f"the calibration was measured with {told}, which scales alone do not do; `asked` of what load_calibration "
        "returns puts a prompt as it was put"
    )


def _told(scheduler: str | None) -> str | None:
    return scheduler and f"the calibration was measured with another scheduler: {scheduler}"


def _hooked(pipe: Any, sites: list[Site], recipe: Recipe, max_sequence_length: int | None) -> Hooked:
    """Attach the hooks that apply a recipe."""
    if not recipe.weighs:  # the only member takes part in every forward pass of the pipeline
        return StackedRows(transformers(pipe), sites)
    members: list[Condition] = [member.sees for member in recipe.members if member.sees != "all"]
    family = family_with(recipe.transformer)
    empty = family.empty if recipe.empty is None else recipe.empty
    unconditional = {}
    if "unconditional" in members:  # before hooks are attached: if this fails, the model stays untouched
        unconditional = as_inputs(family, encode_prompt(pipe, family, empty, max_sequence_length))
    own = _own_guidance(family, empty, keeps_prompt=empty != family.empty)
    ensemble = Ensemble(pipe.transformer, sites, members, family.conditioning, own=own)
    ensemble.unconditional = unconditional
    return ensemble


def _own_guidance(family: Family, empty: str, *, keeps_prompt: bool) -> OwnGuidance:
    """Return the functions by which an ensemble inspects the guidance of the calling pipeline."""
    is_empty = partial(callers.negative_is, empty)
    if family.stacks:
        [off] = [f"{name}={value:g}" for name, value in family.unguided.items()]
        return OwnGuidance(
            callers.refuse_perturbed,
            callers.num_groups,
            None,
            is_empty,
            keeps_prompt=keeps_prompt,
            empty=empty,
            off=off,
        )
    return OwnGuidance(callers.refuse_perturbed, moment=callers.moment, is_empty=is_empty, empty=empty)

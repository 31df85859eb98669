"""Tiny instances of classes that read pictures or sound as well; given texts alone, their text models are checked.

`trimpot sites LlavaForConditionalGeneration --library transformers` checks the classes that are named.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from .classes import BESIDE
from .example import SIZES, LanguageExample, causal_classes

_WINDOW = 8  # tokens


@dataclass(frozen=True)
class ReadingExample(LanguageExample):
    """A tiny instance of a class that reads pictures or sound as well; see `LanguageExample`."""

    @property
    def made_of(self) -> type[nn.Module]:
        """The class."""
        return reading_classes()[self.kind]

    def settings(self) -> Any:
        """Return the configuration, small in all of its parts."""
        config = self.made_of.config_class()  # type: ignore[attr-defined]
        _make_small(config)
        return config


def _make_small(config: Any) -> None:
    """Set the sizes of a configuration and of those within it."""
    for name, value in list(vars(config).items()):
        if name in SIZES and value is not None and not isinstance(value, (list, dict)):
            setattr(config, name, SIZES[name])
        if hasattr(value, "model_type"):
            _make_small(value)
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(getattr(config, name, None), list):
            setattr(config, name, getattr(config, name)[: getattr(config, "num_hidden_layers", None)])
    if getattr(config, "sliding_window", None):
        config.sliding_window = _WINDOW
    if isinstance(getattr(config, "rope_parameters", None), dict):
        config.rope_parameters["mrope_section"] = [2, 1, 1]  # of time, height and width, in half a head
    config._attn_implementation = "eager"


@cache
def reading_classes() -> dict[str, type[nn.Module]]:
    """Return every class of the installed transformers that makes texts of pictures, sound and texts, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
        from transformers.models.auto import modeling_auto

        mappings = (
            modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        )
        names = {
            name
            for mapping in mappings
            for found in mapping.values()
            for name in (found if isinstance(found, tuple) else (found,))
        }
        made = {name: getattr(transformers, name, None) for name in sorted(names)}
    return {name: kind for name, kind in made.items() if kind is not None and name not in causal_classes()}


def reading_example(kind: str) -> ReadingExample:
    """Return the example of a class; experts and towers are computed in float32."""
    return ReadingExample(kind, precision="float32", beside=BESIDE)

"""The factory of the adapter for language models."""

from __future__ import annotations

from ...engine.hooks import Register, hookimpl
from ...engine.seams import Adapter
from ...ground.errors import ModelError
from ..options import takes
from .options import LanguageOptions, mistake


@takes(LanguageOptions)
def make_transformers(options: LanguageOptions) -> Adapter:
    """Any causal language model of transformers whose decoder trimpot covers: likelihoods of answers, or texts."""
    from .adapter import LanguageAdapter, LanguageOutline
    from .checkpoints import forget_habits, load_language_model, outlined

    if problem := mistake(options):
        raise ModelError(problem)
    if options.outline:
        return LanguageOutline(*outlined(options), options)
    model, tokenizer, source = load_language_model(options)
    forget_habits(model)
    return LanguageAdapter(model, tokenizer, source, options)


@hookimpl
def register_adapters(register: Register) -> None:
    """Register the adapter for language models."""
    register("transformers", make_transformers)

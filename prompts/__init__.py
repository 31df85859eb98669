"""Prompts by name: a grammar of compositional prompts, published sets, the paper's protocol, and files.

The prompts of the shapes world and of GenEval's grammar are registered by the rewards that parse them.
"""

from __future__ import annotations

from pydantic import PositiveInt

from ..engine.bucket import PromptSet
from ..engine.hooks import Factory, Register, Source, hookimpl
from .compositional import compositional_prompts
from .files import prompt_files
from .published import PUBLISHED, Choice, calibri_prompts, published_prompts


def make_compositional_prompts(
    *,
    categories: list[str] | None = None,
    num_train: PositiveInt | None = None,
    num_validation: PositiveInt | None = None,
    num_test: PositiveInt | None = None,
) -> PromptSet:
    """Prompts of trimpot's own grammar: attributes, numbers, relations, actions and scenes; no file, no download."""
    return compositional_prompts(categories, {"train": num_train, "validation": num_validation, "test": num_test})


def make_calibri_prompts(
    *,
    t2i_compbench: Source = PUBLISHED["t2i-compbench"].hub,
    hpdv3: Source = PUBLISHED["hpdv3"].hub,
    t2i_compbench_revision: str | None = None,
    hpdv3_revision: str | None = None,
    num_train: PositiveInt | None = None,
    num_validation: PositiveInt | None = None,
    num_test: PositiveInt | None = None,
) -> PromptSet:
    """The protocol of the paper Calibri: train and select on T2I-CompBench++, report on HPDv3's test prompts."""
    return calibri_prompts(
        Choice(t2i_compbench, t2i_compbench_revision),
        Choice(hpdv3, hpdv3_revision),
        {"train": num_train, "validation": num_validation, "test": num_test},
    )


def _factory(name: str) -> Factory:
    """Return the factory of a published set."""
    row = PUBLISHED[name]

    def make(
        *,
        source: Source = row.hub,
        revision: str | None = None,
        column: str | None = None,
        categories: list[str] | None = None,
        num_train: PositiveInt | None = None,
        num_validation: PositiveInt | None = None,
        num_test: PositiveInt | None = None,
    ) -> PromptSet:
        numbers = {"train": num_train, "validation": num_validation, "test": num_test}
        return published_prompts(name, Choice(source, revision, column, categories), numbers)

    make.__doc__ = f"{row.title} ({row.citation}; licence: {row.licence})."
    return make


@hookimpl
def register_prompts(register: Register) -> None:
    """Register every set of prompts of this room."""
    register("files", prompt_files)
    register("compositional", make_compositional_prompts)
    register("calibri", make_calibri_prompts)
    for name in PUBLISHED:
        register(name, _factory(name))

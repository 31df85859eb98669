"""Prompts by name: a grammar of compositional prompts, published sets, the paper's protocol, and files.

The prompts of the shapes world and of GenEval's grammar are registered by the rewards that parse them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from ..engine.bucket import PromptSet
from ..engine.hooks import Factory, Register, Source, hookimpl
from .compositional import compositional_prompts
from .files import prompt_files
from .published import PUBLISHED, Choice, calibri_prompts, published_prompts
from .sums import MOST_SHOTS, Wording, addition_prompts
from .watchable import capital_prompts, prose_prompts


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


def make_addition_prompts(
    *,
    digits: Annotated[int, Field(ge=1, le=9)] = 2,
    shots: Annotated[int, Field(ge=0, le=MOST_SHOTS)] = 1,
    wording: Wording = "equation",
    num_train: PositiveInt | None = None,
    num_validation: PositiveInt | None = None,
    num_test: PositiveInt | None = None,
) -> PromptSet:
    """Sums with their answers, for language models, after a few worked examples; no file, no download."""
    numbers = {"train": num_train, "validation": num_validation, "test": num_test}
    return addition_prompts(digits, shots, wording, numbers)


def make_capital_prompts() -> PromptSet:
    """Capitals of countries with four options each, for language models; made to be watched."""
    return capital_prompts()


def make_prose_prompts() -> PromptSet:
    """Short texts in plain English, whose likelihood language models can be asked for; made to be watched."""
    return prose_prompts()


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
    register("addition", make_addition_prompts)
    register("capitals", make_capital_prompts)
    register("prose", make_prose_prompts)
    for name in PUBLISHED:
        register(name, _factory(name))

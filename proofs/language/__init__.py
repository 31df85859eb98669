"""Tiny real instances of transformers' causal language models, for checks that concern all of them.

    example = examples()["LlamaForCausalLM"]
    model = example.build()
    output = model(**example.arguments(rows=2))

`trimpot sites --library transformers` runs the contract of `trimpot.testing.transformer` on all of them.
"""

from .example import LanguageExample, causal_classes, examples
from .reading import reading_classes

__all__ = ["LanguageExample", "causal_classes", "examples", "reading_classes"]

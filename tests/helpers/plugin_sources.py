"""The source of a plugin that works, and of ones in which a single thing is another."""

from __future__ import annotations

from textwrap import dedent

WHOLE = """
import numpy as np
import trimpot


class Good(trimpot.Objective):
    def score(self, outputs, prompts):
        return np.array(outputs)


class Line(trimpot.Adapter):
    space = trimpot.KnobSpace([trimpot.Knob("slope"), trimpot.Knob("offset", low=-1.0, high=1.0, default=0.0)])

    def generate(self, population, bucket):
        for slope, offset in population:
            yield [slope * len(prompt) + offset for prompt in bucket.prompts]

    def describe(self):
        return {"id": "line"}


class Still(trimpot.Optimizer):
    def __init__(self, space, *, start, seed):
        self.start = start

    def ask(self):
        return np.stack([self.start] * 4)

    def tell(self, population, fitness):
        pass

    def recommend(self):
        return self.start


class Sum(trimpot.Combination):
    def __init__(self, weights):
        self.weights = weights

    def values(self, scores, bucket, pool):
        return sum(weight * scores[name] for name, weight in self.weights.items())


def words():
    names = [f"word {number}" for number in range(30)]
    return trimpot.PromptSet(tuple(names[:10]), tuple(names[10:20]), tuple(names[20:]))
"""
KINDS = {
    "adapter": ("adapters", "Line"),
    "objectives": ("objectives", "Good"),
    "prompts": ("prompts", "words"),
    "optimizer": ("optimizers", "Still"),
    "combine": ("combinations", "Sum"),
}


def registering(key: str, factory: str, name: str = "'mine'") -> str:
    return f"\n@trimpot.hookimpl\ndef register_{KINDS[key][0]}(register):\n    register({name}, {factory})\n"


def changed(key: str, body: str) -> str:
    """The plugin with one class or function of it changed."""
    base = KINDS[key][1]
    method = dedent(body).strip().replace("\n", "\n    ")
    return f"{WHOLE}\nclass Mine({base}):\n    {method}\n{registering(key, 'Mine')}"


def factory(key: str, code: str) -> str:
    """The plugin with another factory, called `mine`."""
    return f"{WHOLE}\n{dedent(code).strip()}\n{registering(key, 'mine')}"

"""Parts of a run on a line, each in every form in which a Python program may give it; importable by any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import trimpot
from numpy.typing import NDArray
from trimpot.engine.bucket import Bucket
from trimpot.engine.seams import Combination

KNOBS = [trimpot.Knob("slope"), trimpot.Knob("offset")]
PATIENCE: list[Patience] = []


class Patience:
    """What says when a reward has had enough."""

    def run_out(self) -> bool:
        return False


def height(slope: float, offset: float, seed: int) -> float:
    return -abs(slope - 1.2) - abs(offset - 0.9) + seed % 100 / 1000


@trimpot.adapter(KNOBS)
def line(setting: Mapping[str, float], prompt: str, seed: int, *, noise: float = 0.0) -> float:
    return height(setting["slope"], setting["offset"], seed) + noise * seed


@trimpot.adapter(KNOBS, name="line")
def steep(setting: Mapping[str, float], prompt: str, seed: int) -> float:
    return 2 * height(setting["slope"], setting["offset"], seed)


@trimpot.adapter(KNOBS)
def silent(setting: Mapping[str, float], prompt: str, seed: int) -> None:
    return None


class Line(trimpot.Adapter):
    """The line as a class."""

    space = trimpot.KnobSpace(KNOBS)

    def __init__(self, *, steepness: float = 1.0) -> None:
        self.steepness = steepness

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        for slope, offset in population:
            yield [self.steepness * height(slope, offset, seed) for seed in bucket.seeds]

    def describe(self) -> dict[str, Any]:
        return {"id": "line", "steepness": self.steepness}


class Keeping(Line):
    """A line that keeps the prompts it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, int] = {}

    def generate(self, population: NDArray[np.float64], bucket: Bucket) -> Iterator[list[float]]:
        self.kept |= {prompt: len(prompt) for prompt in bucket.prompts}
        return super().generate(population, bucket)


def mine(outputs: Sequence[float], prompts: Sequence[str]) -> Sequence[float]:
    return outputs


@trimpot.objective
def decorated(outputs: Sequence[float], prompts: Sequence[str]) -> Sequence[float]:
    return outputs


def scaled(outputs: Sequence[float], prompts: Sequence[str], *, scale: float = 1.0) -> list[float]:
    return [scale * output for output in outputs]


def patient(outputs: Sequence[float], prompts: Sequence[str]) -> Sequence[float]:
    if any(each.run_out() for each in PATIENCE):
        raise RuntimeError("enough")
    return outputs


class Mine(trimpot.Objective):
    """The output itself, as a class."""

    def __init__(self, *, power: float = 1.0) -> None:
        self.power = power

    def score(self, outputs: Sequence[float], prompts: Sequence[str]) -> NDArray[np.float64]:
        return self.power * np.array(outputs)

    def describe(self) -> dict[str, Any]:
        return {"power": self.power}


class Halved(Mine):
    """Half the output."""

    def __init__(self) -> None:
        super().__init__(power=0.5)


class Callable:
    """An object that can be called."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, outputs: Sequence[float], prompts: Sequence[str]) -> list[float]:
        return [self.scale * output for output in outputs]


class Sum(Combination):
    """The weighted sum, times a factor."""

    def __init__(self, weights: Mapping[str, float], *, factor: float = 1.0) -> None:
        self.weights, self.factor = weights, factor

    def values(self, scores: Any, bucket: Any, pool: Any) -> Any:
        return self.factor * sum(weight * scores[name] for name, weight in self.weights.items())


class Strict(Sum):
    """A sum that admits nothing but the neutral setting."""

    def admits(self, candidate: Any, neutral: Any) -> bool:
        return False


class Still(trimpot.Optimizer):
    """Asks for the start alone."""

    def __init__(self, space: Any, *, start: NDArray[np.float64], seed: int) -> None:
        self.start = start

    def ask(self) -> NDArray[np.float64]:
        return np.stack([self.start] * 4)

    def tell(self, population: Any, fitness: Any) -> None:
        pass

    def recommend(self) -> NDArray[np.float64]:
        return self.start


def words() -> trimpot.PromptSet:
    names = [f"word {number}" for number in range(30)]
    return trimpot.PromptSet(tuple(names[:10]), tuple(names[10:20]), tuple(names[20:]))

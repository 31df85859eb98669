"""Ways of asking: in which format, after how many examples, and against which bias of its options a prompt is put.

Whoever calibrates nothing can choose these too, so all of them are neutral settings. The number of examples and the
format are choices, which no search changes; the bias is a knob like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...engine.bucket import PromptSet
from ...engine.knobs import Knob, Setting, digest
from ...ground.errors import ModelError
from .formats import BIAS, CHOICES, FORMAT, SHOTS, Asked, Example, Format
from .items import item_of
from .options import LEAST_BIAS, MOST_BIAS, LanguageOptions

CONTENT_FREE = "N/A"  # of Zhao et al. (2021)


@dataclass(frozen=True)
class Manner:
    """A way of asking any prompt.

    Attributes:
        format: The format.
        shots: How many examples are shown.
        bias: The share of each option's log-likelihood without the prompt that is subtracted.
    """

    format: Format
    shots: int
    bias: float = 0.0


class Manners:
    """The ways of asking that options allow, and the examples.

    Args:
        options: The adapter's options.

    Attributes:
        knobs: What of them is a knob: the choices among several, which are not searched, and the bias.
        examples: The first training records in an order that does not depend on their file: one more than are ever
            shown, so that a record that is asked itself is never shown with its answer.
    """

    def __init__(self, options: LanguageOptions) -> None:
        self.formats = tuple(Format.of(each, chat=options.chat) for each in options.formats)
        self.shots, self._system = options.shots, options.system
        self.content_free = options.content_free or CONTENT_FREE
        self.examples: tuple[Example, ...] = ()
        self._strangers: frozenset[str] = frozenset()
        self._axes: dict[str, tuple[float, ...]] = {}
        if len(self.shots) > 1:
            self._axes[SHOTS] = tuple(map(float, self.shots))
        if len(self.formats) > 1:
            self._axes[FORMAT] = tuple(float(number) for number in range(1, len(self.formats) + 1))
        self.knobs = [
            Knob(name, min(values), max(values), values[0], searched=False) for name, values in self._axes.items()
        ]
        if options.bias_grid:
            self._axes[BIAS] = tuple(dict.fromkeys((0.0, *options.bias_grid)))
            self.knobs.append(Knob(BIAS, LEAST_BIAS, MOST_BIAS, 0.0))

    @property
    def biased(self) -> bool:
        """Whether there is a knob for the bias."""
        return BIAS in self._axes

    def neutrals(self, neutral: Setting) -> dict[str, Setting]:
        """Return, by label, a neutral setting with every way of asking."""
        grid = [dict(zip(self._axes, values, strict=True)) for values in product(*self._axes.values())]
        return {_label(each): {**neutral, **each} for each in grid}

    def of(self, setting: Setting) -> Manner:
        """Return the way of asking of a setting.

        Raises:
            ModelError: If a choice is none of those that the options give.
        """
        for name in CHOICES:
            if name in self._axes and setting[name] not in self._axes[name]:
                given = ", ".join(f"{value:g}" for value in self._axes[name])
                raise ModelError(f"{name} is {setting[name]:g}, and the choices are {given}")
        return Manner(
            self.formats[round(setting.get(FORMAT, 1.0)) - 1],
            round(setting.get(SHOTS, self.shots[0])),
            setting.get(BIAS, 0.0),
        )

    @property
    def all(self) -> list[Manner]:
        """Every way of asking, without a bias."""
        return [Manner(form, shots) for form, shots in product(self.formats, self.shots)]

    @property
    def shows(self) -> bool:
        """Whether examples are ever shown."""
        return max(self.shots) > 0

    def take(self, prompts: PromptSet) -> None:
        """Choose the examples among the training prompts, and remember which prompts are only watched.

        Raises:
            ModelError: If there are too few with an answer, or a record cannot be used.
        """
        own = {*prompts.train, *prompts.held_out}
        self._strangers = frozenset(set(prompts.all) - own)
        if not self.shows:
            return
        answered: dict[str, str] = {}
        for prompt in dict.fromkeys(prompts.train):
            answer = item_of(prompt, prompts.metadata.get(prompt, {})).answer
            if answer is not None:
                answered[prompt] = answer
        needed = max(self.shots) + 1
        if len(answered) < needed:
            raise ModelError(
                f"shots: {max(self.shots)} needs {needed} different training prompts with an answer, so that none is "
                f"its own example, and there are {len(answered)}; give more records, or fewer shots"
            )
        self.examples = tuple((prompt, answered[prompt]) for prompt in sorted(answered, key=digest)[:needed])

    def asked(self, prompt: str, manner: Manner) -> Asked:
        """Return a prompt as it is asked. Before a prompt that is only watched, no example of another task is shown.

        Raises:
            ModelError: If examples are to be shown, and no training prompts are known.
        """
        if prompt in self._strangers:
            return Asked(prompt, manner.format)
        others = [each for each in self.examples if each[0] != prompt]
        if len(others) < manner.shots:
            raise ModelError(f"shots: {manner.shots} shows training prompts with their answers, and none are known")
        return Asked(prompt, manner.format, tuple(others[: manner.shots]))

    def describe(self) -> dict[str, Any]:
        """Describe what of the ways of asking changes answers, and is not told by a setting."""
        return {
            "formats": [{"text": each.text, "chat": each.chat} for each in self.formats],
            "shots": list(self.shots),
            "examples": digest(self.examples) if self.examples else None,
            "neutral_biases": list(self._axes.get(BIAS, ())),
            "content_free": self.content_free if self.biased else None,
        }

    def export(self, setting: Setting, neutral: Setting) -> dict[str, Any]:
        """Return how a setting asks, as the entry `asking` of a calibration file; empty for prompts as they are."""
        manner = self.of(setting)
        found: dict[str, Any] = {"format": manner.format.text, "chat": manner.format.chat}
        if manner.format.chat and self._system is not None:
            found["system"] = self._system
        found["examples"] = [list(each) for each in self.examples[: manner.shots]]
        if self.biased:
            found |= {"bias": manner.bias, "neutral_bias": self.of(neutral).bias, "content_free": self.content_free}
        plain = manner.format == Format() and not found["examples"] and not self.biased
        return {} if plain else {"asking": found}


def _label(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items()) or "neutral"

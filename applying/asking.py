"""The part of a calibration file that says how prompts were put to a language model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..adapters.language.formats import PROMPT, Asked, Format, mistaken_format
from ..adapters.language.options import LEAST_BIAS, LONGEST_FORMAT, MOST_BIAS, MOST_SHOTS
from ..ground.plain import short

Bias = Annotated[float, Field(strict=True, ge=10 * LEAST_BIAS, le=10 * MOST_BIAS, allow_inf_nan=False)]


class Asking(BaseModel):
    """How prompts were asked when a calibration was measured.

    Attributes:
        chat: Whether a prompt was a message of a chat.
        format: What stood around it.
        system: The first message of the chat, or None.
        examples: Prompts with their answers that were shown before it.
        bias: The share of each option's log-likelihood without the prompt that was subtracted.
        neutral_bias: The same of the neutral setting.
        content_free: What stood in the prompt's place for the log-likelihood without it, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    chat: bool = False
    format: str = Field(default=PROMPT, max_length=LONGEST_FORMAT)
    system: str | None = None
    examples: tuple[tuple[str, str], ...] = Field(default=(), max_length=MOST_SHOTS)
    bias: Bias = 0.0
    neutral_bias: Bias = 0.0
    content_free: str | None = None

    @field_validator("format")
    @classmethod
    def _check(cls, given: str, info: ValidationInfo) -> str:
        if problem := mistaken_format(given, chat=bool(info.data.get("chat"))):
            raise ValueError(problem)
        return given

    def put(self, prompt: str) -> Asked:
        """Return a prompt in its format, with its examples."""
        return Asked(prompt, Format(self.format, self.chat), self.examples)

    def asked(self, prompt: str) -> str | list[dict[str, str]]:
        """Return a prompt as it was put to the model: a text, or the messages of a chat."""
        found = self.put(prompt)
        return found.messages(self.system) if self.chat else found.text

    @property
    def apart(self) -> dict[str, Any]:
        """What two calibrations must have in common to be of one way of asking, by its name in a message."""
        return {
            "chat": self.chat,
            "format": self.format,
            "first message": self.system,
            "examples": [prompt for prompt, _ in self.examples] or None,
            "prompt without content": self.content_free,
        }

    @property
    def told(self) -> str:
        """What nobody knows who looks at the scales alone, as a part of a sentence; empty for prompts as they are."""
        number = len(self.examples)
        parts = [
            f"{number} example{'s' * (number > 1)} before each prompt" if number else "",
            f"the format {short(self.format)}" if self.format != PROMPT else "",
            f"{self.bias:g} of each option's log-likelihood after {short(self.content_free)} subtracted"
            if self.bias
            else "",
        ]
        return " and ".join(filter(None, parts))

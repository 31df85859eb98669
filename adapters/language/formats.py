"""Formats of prompts: what stands around a prompt and its answer, and the examples that are shown before it."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT, ANSWER, CHAT = "{prompt}", "{answer}", "chat"
SHOTS, FORMAT, BIAS = "shots", "format", "bias"  # names of knobs
CHOICES = (SHOTS, FORMAT)  # those that no search changes
BETWEEN = "\n\n"  # after each example of a text; as harnesses of language models do it

Example = tuple[str, str]  # a prompt and its answer


@dataclass(frozen=True)
class Format:
    """What stands around a prompt and its answer.

    Attributes:
        text: A text with `{prompt}`, which may end in `{answer}`.
        chat: Whether the text is a user's message in the model's chat template, and the answer the reply.
    """

    text: str = PROMPT
    chat: bool = False

    @classmethod
    def of(cls, given: str, *, chat: bool) -> Format:
        """Read a format of the options: a text, or `chat` for a message that is the prompt."""
        return cls(PROMPT, True) if given == CHAT else cls(given, chat)

    def around(self, prompt: str) -> str:
        """Return the text up to the answer and the white space before it."""
        before, _, after = self._stem.partition(PROMPT)
        return before + prompt + (after.rstrip() if self._gap else after)

    def reply(self, answer: str) -> str:
        """Return an answer as it follows the text; white space of the format stands in place of the answer's own."""
        return self._gap + answer.lstrip() if self._gap else answer

    @property
    def _stem(self) -> str:
        return self.text.removesuffix(ANSWER)

    @property
    def _gap(self) -> str:
        after = self._stem.partition(PROMPT)[2]
        return after[len(after.rstrip()) :] if self.text.endswith(ANSWER) else ""


@dataclass(frozen=True)
class Asked:
    """A prompt as it is put to the model.

    Attributes:
        prompt: The prompt itself.
        format: What stands around it.
        examples: Prompts with their answers that are shown before it, in the same format.
    """

    prompt: str
    format: Format = Format()
    examples: tuple[Example, ...] = ()

    @property
    def text(self) -> str:
        """The whole text, for a format that is no chat."""
        shown = [self.format.around(prompt) + self.format.reply(answer) for prompt, answer in self.examples]
        return BETWEEN.join([*shown, self.format.around(self.prompt)])

    def messages(self, system: str | None) -> list[dict[str, str]]:
        """Return the messages of a chat; each example is a message with its reply."""
        found = [] if system is None else [{"role": "system", "content": system}]
        for prompt, answer in self.examples:
            found.append({"role": "user", "content": self.format.around(prompt)})
            found.append({"role": "assistant", "content": answer.strip()})
        return [*found, {"role": "user", "content": self.format.around(self.prompt)}]

    @property
    def ends(self) -> tuple[str, ...]:
        """Texts at which a generated answer ends, because another example would follow."""
        return (BETWEEN,) if self.examples and not self.format.chat else ()


def mistaken_format(given: str, *, chat: bool) -> str | None:
    """Return a sentence on what is wrong with a format, or None."""
    if given == CHAT:
        return "chat: true makes every format a message of a chat; leave out chat, or the format chat" if chat else None
    if given.count(PROMPT) != 1:
        return f"the format {given!r} must hold {PROMPT} once, or be the word chat"
    if ANSWER in given:
        if chat:
            return f"in a chat, the answer is the reply; leave {ANSWER} out of the format {given!r}"
        if not given.endswith(ANSWER) or given.count(ANSWER) > 1 or given.index(ANSWER) < given.index(PROMPT):
            return f"the format {given!r} must end in {ANSWER}, or leave it out"
    return None

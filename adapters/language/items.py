"""Items: a prompt with its answer and options, and how they become tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ground.errors import ModelError, first_line
from ...ground.plain import quoted
from .formats import Asked, Format


@dataclass(frozen=True)
class Item:
    """What a prompt file says of a prompt.

    Attributes:
        prompt: The prompt.
        answer: The answer, or None.
        options: The options to choose from; empty if there are none.
    """

    prompt: str
    answer: str | None = None
    options: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts whose likelihood is computed: the answer first, then the options, each once."""
        given = ([] if self.answer is None else [self.answer]) + list(self.options)
        return tuple(dict.fromkeys(given))


def item_of(prompt: str, metadata: Mapping[str, Any]) -> Item:
    """Read a prompt's metadata.

    Args:
        prompt: The prompt.
        metadata: `answer`, a text or number, or a list of texts of which the first counts; `options`, a list of texts.
            Other entries are passed over.

    Raises:
        ModelError: If the answer or an option is something else, or the answer is none of the options.
    """
    of = f"of the prompt {quoted(prompt)}"
    given = metadata.get("options")
    if given is not None and (not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2):
        raise ModelError(f"the options {of} are {given!r}; give a list of at least two texts")
    options = tuple(_text(each, f"an option {of}") for each in given or ())
    if len(set(options)) < len(options):
        raise ModelError(f"two options {of} are the same; leave one out")
    answer = metadata.get("answer")
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        answer = answer[0] if answer else None
    answer = None if answer is None else _text(answer, f"the answer {of}")
    if options and answer is not None and answer not in options:
        raise ModelError(f"the answer {of} is none of its options; give it in the same words as among them")
    return Item(prompt, answer, options)


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ModelError(f"{what} is {value!r}; give a text")
    text = str(value)
    if not text:
        raise ModelError(f"{what} is empty; give a text")
    return text


def _examples(asked: Asked) -> str:
    return f" with its {len(asked.examples)} examples" if asked.examples else ""


@dataclass(frozen=True)
class Limits:
    """How many tokens there may be.

    Attributes:
        vocabulary: The number of tokens that the model knows.
        context: The most tokens that the model can be given; None if its configuration names no limit.
        prompt: The most tokens of a prompt; None for the context.
        answer: The most tokens of an answer or option.
        written: The most tokens that the model writes after a prompt; 0 if it writes none.
    """

    vocabulary: int
    context: int | None
    prompt: int | None
    answer: int
    written: int = 0


class Wording:
    """Turns prompts and answers into tokens.

    Args:
        tokenizer: The model's tokenizer.
        limits: How many tokens there may be.
        chat: Whether there are prompts of a chat, for which the tokenizer's chat template is needed.
        system: The first message of a chat, or None.

    Raises:
        ModelError: If a chat is asked for and there is no template, or it fails, or leaves out the prompt.
    """

    def __init__(self, tokenizer: Any, limits: Limits, *, chat: bool, system: str | None) -> None:
        if chat and not getattr(tokenizer, "chat_template", None):
            raise ModelError("the model's tokenizer has no chat template; leave out chat")
        self._tokenizer, self._chat, self._system, self._limits = tokenizer, chat, system, limits
        if not chat:
            return
        first, second = (self._worded(Asked(text, Format(chat=True))) for text in ("a", "b"))
        if first == second:
            raise ModelError("the model's chat template leaves out the prompt; leave out chat")
        if system and system not in first:
            raise ModelError("the model's chat template leaves out the system message; leave out system")

    def context(self, asked: Asked) -> list[int]:
        """Return the tokens that the model is given for a prompt.

        Raises:
            ModelError: If the template fails, the prompt has no tokens, or too many.
        """
        prompt = asked.prompt
        ids = self._ids(self._worded(asked), special=not asked.format.chat)
        if not ids:
            start = self._tokenizer.bos_token_id
            if start is None:
                raise ModelError(f"the prompt {quoted(prompt)} has no tokens, and the model has no token to start with")
            ids = [start]
        limits = self._limits
        self._check_fit(asked, len(ids), len(ids))
        given = len(ids) + max(limits.written - 1, 0)  # all but the last token that is written
        if limits.context is not None and given > limits.context:
            raise ModelError(
                f"the prompt {quoted(prompt)}{_examples(asked)} has {len(ids)} tokens, and with max_new_tokens: "
                f"{limits.written} there would be {given}, of which the model takes at most {limits.context}; shorten "
                f"it, {'give fewer shots, ' if asked.examples else ''}or lower max_new_tokens"
            )
        return ids

    def continued(self, asked: Asked, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt, and those of a text that continues it.

        The prompt's tokens are those from which the model would generate. The text's tokens are what follows if both
        are tokenized together; if that would change the prompt's tokens, the text is tokenized by itself.

        Raises:
            ModelError: If the text has no tokens, or too many.
        """
        prompt, chat, reply = asked.prompt, asked.format.chat, asked.format.reply(text)
        context = self.context(asked)
        whole = self._ids(self._worded(asked) + reply, special=not chat)
        tail = whole[len(context) :] if whole[: len(context)] == context else self._ids(reply, special=False)
        if not tail:
            raise ModelError(f"the answer {text!r} of the prompt {quoted(prompt)} has no tokens; give another")
        limits = self._limits
        if len(tail) > limits.answer:
            raise ModelError(
                f"an answer or option of the prompt {quoted(prompt)} has {len(tail)} tokens, and max_answer_tokens is "
                f"{limits.answer}; shorten it, or raise the option"
            )
        if limits.context is not None and len(context) + len(tail) > limits.context + 1:
            raise ModelError(
                f"the prompt {quoted(prompt)} and its answer have {len(context) + len(tail)} tokens, and at most "
                f"{limits.context} fit; shorten them"
            )
        return context, tail

    def prose(self, prompt: str) -> tuple[list[int], list[int]]:
        """Split a prompt, which is a text of its own, into its first token and the tokens after it.

        Raises:
            ModelError: If the prompt has too few tokens.
        """
        ids = self._ids(prompt, special=True)
        start = self._tokenizer.bos_token_id
        if start is not None and ids[:1] != [start]:
            ids = [start, *ids]
        if len(ids) < 2:
            raise ModelError(f"the prompt {quoted(prompt)} has fewer than two tokens, so nothing is predicted")
        self._check_fit(Asked(prompt, Format()), len(ids), len(ids) - 1)
        return ids[:1], ids[1:]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without special ones."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def describe(self) -> dict[str, Any]:
        """Describe how prompts become tokens."""
        template = self._tokenizer.chat_template if self._chat else None
        return {"chat_template": template, "system": self._system}

    def _check_fit(self, asked: Asked, size: int, given: int) -> None:
        """Refuse a prompt of `size` tokens if fewer fit than those that the model would be given."""
        fit = min((each for each in (self._limits.prompt, self._limits.context) if each is not None), default=given)
        if given > fit:
            raise ModelError(
                f"the prompt {quoted(asked.prompt)}{_examples(asked)} has {size} tokens, and at most {fit} fit; "
                f"shorten it{', or give fewer shots' if asked.examples else ''}"
            )

    def _worded(self, asked: Asked) -> str:
        if not asked.format.chat:
            return asked.text
        messages = asked.messages(self._system)
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of the model's authors
            raise ModelError(f"the model's chat template fails: {first_line(error)}") from error

    def _ids(self, text: str, *, special: bool) -> list[int]:
        ids = [int(each) for each in self._tokenizer(text, add_special_tokens=special)["input_ids"]]
        if max(ids, default=0) >= self._limits.vocabulary:
            raise ModelError(
                f"the tokenizer makes token {max(ids)} of {quoted(text)}, and the model has {self._limits.vocabulary} "
                "tokens; give the tokenizer that belongs to the model"
            )
        return ids

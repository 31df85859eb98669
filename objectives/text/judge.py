"""A chat model behind a server that scores texts: any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Output
from ...ground.errors import ConfigError, ScoreError
from ...ground.plain import number, quoted, short
from ..asking import AWAY, Asked, check_url, colon, error_in
from .patterns import Pattern
from .texts import KeyedObjective

TOKEN_VARIABLE = "TRIMPOT_JUDGE_TOKEN"
BUSY = 429
MOST_BYTES = 1 << 20
TEMPLATE = """Rate how well the answer does what the prompt asks, from 0 (not at all) to 10 (perfectly).

<prompt>
{prompt}
</prompt>

<answer>
{answer}
</answer>

Reply with the number alone."""
PATTERN = r"-?\d+(?:\.\d+)?"
_PLACE = re.compile(r"\{(prompt|answer|reference)\}")


class Judge(KeyedObjective):
    """A chat model that scores texts.

    Args:
        url: The server's address up to the version, such as http://127.0.0.1:8000/v1.
        model: The name of the model, as the server knows it.
        template: The message to the model; {prompt}, {answer} and {reference} stand for the prompt, the text to score,
            and the answer of the prompt's record.
        system: The system message, or None.
        pattern: A regular expression for the score in what the model replies; its first group if it has one, and the
            last place where it matches.
        low: The lowest score that the model may give.
        high: The highest score that the model may give.
        unparsed: The score of a text to which the model replies without one; None refuses to go on.
        max_tokens: The most tokens of a reply.
        parallel: How many requests are sent at the same time.
        timeout: Seconds without a byte after which a request is sent again.
        patience: Seconds to wait for a server that is away or busy.
        token: The token to show to the server; None shows none.

    Raises:
        ConfigError: If an option is wrong.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        template: str,
        system: str | None,
        pattern: str,
        low: float,
        high: float,
        unparsed: float | None,
        max_tokens: int,
        parallel: int,
        timeout: float,
        patience: float,
        token: str | None,
    ) -> None:
        needs = ("answer",) if "{reference}" in template else ()
        said = {"model": model, "template": template, "system": system, "pattern": pattern, "range": [low, high]}
        super().__init__("judge", needs, **said, unparsed=unparsed, max_tokens=max_tokens)
        check_url(url, "chat server", "http://127.0.0.1:8000/v1", TOKEN_VARIABLE)
        if "{answer}" not in template:
            raise ConfigError(
                "objective 'judge': the template has no {answer}, so that it would not see what it scores"
            )
        if low >= high:
            raise ConfigError(f"objective 'judge': low {low:g} must lie below high {high:g}")
        self.model, self._template, self._system, self._low, self._high = model, template, system, low, high
        self._pattern, self._unparsed = Pattern(pattern, "objective 'judge': option pattern"), unparsed
        self._max_tokens, self._parallel = max_tokens, parallel
        name, away = f"the chat server at {url.rstrip('/')}", (*AWAY, BUSY)
        self._server = Asked(url, name, "a judge", timeout=timeout, patience=patience, token=token, away=away)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Ask for the score of every text. See `Objective.score`.

        Raises:
            ScoreError: If the server refuses or stays away, or a reply holds no score.
        """
        texts = [self.text(output) for output in outputs]
        messages = [self._message(text, prompt) for text, prompt in zip(texts, prompts, strict=True)]
        with ThreadPoolExecutor(self._parallel) as pool:
            return np.array(list(pool.map(self._judged, messages, prompts)), dtype=np.float64)

    def _message(self, text: str, prompt: str) -> str:
        """Return the message to the model; what stands in a text is never taken for a place of the template."""
        values = {"prompt": prompt, "answer": text}
        if self.needs:
            values["reference"] = self.answer_to(prompt)
        return _PLACE.sub(lambda found: values[found[1]], self._template)

    def _judged(self, message: str, prompt: str) -> float:
        reply = self._reply(message)
        found = self._pattern.found(reply)
        try:
            score = float(found[-1])  # type: ignore[arg-type]  # a group that took no part is refused below
        except (IndexError, ValueError, TypeError):
            if self._unparsed is not None:
                return self._unparsed
            raise ScoreError(
                f"{self.model} at {self._server.url} replied {short(reply)} of {quoted(prompt)}, in which pattern "
                f"finds no score; change template or pattern, or give unparsed"
            ) from None
        return number(score, f"the score of {self.model} for {quoted(prompt)}", low=self._low, high=self._high,
                      error=ScoreError)  # fmt: skip

    def _reply(self, message: str) -> str:
        """Return what the model replies to a message."""
        said = [{"role": "system", "content": self._system}] if self._system else []
        body = {
            "model": self.model,
            "messages": [*said, {"role": "user", "content": message}],
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }
        asked = json.dumps(body).encode()
        status, answer = self._server.ask("POST", "/chat/completions", asked, MOST_BYTES, "reply of a judge")
        if status != 200:
            raise ScoreError(f"{self._server.name} refused with status {status}{colon(error_in(answer))}")
        found = self._server.object_in(answer)
        try:
            content = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise ScoreError(f"{self._server.name} answered without a message of {self.model}; is it a chat server?")
        return content


def token_in(variable: str) -> str | None:
    """Return the token that an environment variable holds, or None."""
    return os.environ.get(variable) or None

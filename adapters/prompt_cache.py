"""A pipeline's own `encode_prompt`, asked once for each prompt.

A calibration makes the same few prompts again and again, and a stock pipeline would encode them each time. While an
`encode_prompt` is remembered, a pipeline gets back what it once made of a prompt by itself, joined with others in the
order of the batch. So what a prompt is encoded to does not depend on its neighbours.

What cannot be joined, as prompts of several lengths, is left to the pipeline. Whether joining is right at all is
found out beforehand, by encoding a prompt twice in one batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..ground.errors import ModelError
from .encodings import Encodings, each
from .families import text_encoders_are_gone

_FOREIGN = "foreign"  # the form of a result that holds something else than tensors
_PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class PromptCache:
    """What a pipeline's `encode_prompt` made of each prompt.

    Attributes:
        keeps: Whether what it makes can be kept; None before it was asked.
        encodings: What it made.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._encode: Callable[..., Any] | None = getattr(pipe, "encode_prompt", None)
        self.keeps: bool | None = None if self._encode else False
        self._verdicts: list[bool] = []
        self._forms: dict[str, set[Any]] = {}
        self.encodings = Encodings()

    @property
    def joins(self) -> bool:
        """Whether prompts encoded one by one can stand for prompts encoded together."""
        return bool(self._verdicts) and all(self._verdicts)

    @contextmanager
    def remembering(self, *, checking: bool = False) -> Iterator[None]:
        """Have the pipeline ask here; afterwards it is as it was.

        Args:
            checking: Whether to find out with its next batch if prompts can be joined.
        """
        if self._encode is None:
            yield
            return
        self._pipe.encode_prompt = self._checked if checking else self._remembered
        try:
            yield
        finally:
            del self._pipe.encode_prompt  # the method of its class shows again

    def of_one_form(self) -> bool:
        """Whether all that was asked for differs in numbers only, and so can be joined in any order."""
        return all(len(forms) == 1 for forms in self._forms.values())

    def probe(self, look: Callable[[], object]) -> str:
        """A digest of what is made, anew, of the prompts that `look` gives to the pipeline."""
        known, self.encodings = self.encodings, Encodings()
        try:
            look()
            return self.encodings.checksum()
        finally:
            self.encodings = known

    def _remembered(self, *args: Any, **kwargs: Any) -> Any:
        """`encode_prompt` as the pipeline sees it."""
        prompts, asked = self._asked(args, kwargs)
        if self.keeps is not False and prompts and (self.joins or len(prompts) == 1):
            try:
                return _joined([self._one(prompt, asked) for prompt in prompts])
            except _Apart:
                pass
        return self._encoded(*args, **kwargs)

    def _checked(self, *args: Any, **kwargs: Any) -> Any:
        """The same without joining, and a judgement on whether it could be done.

        Raises:
            ModelError: If a prompt is encoded in one way alone and in another among others, and so would be an
                output.
        """
        prompts, asked = self._asked(args, kwargs)
        together = self._encoded(*args, **kwargs)
        if len(prompts) < 2:
            return together
        try:
            alone = [self._one(prompt, asked) for prompt in prompts]
            self._verdicts.append(_alike(_joined(alone), together))
        except _Apart:
            self._verdicts.append(False)
            return together
        if _rows_differ(alone[0], together, len(prompts)):
            raise ModelError(
                f"a {type(self._pipe).__name__} encodes a prompt among others in another way than alone, so its "
                "outputs would depend on their neighbours; set batch_size: 1"
            )
        return together

    def _asked(self, args: Any, kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        """The prompts of a call, none where it is not one to be remembered, and its other arguments."""
        assert self._encode is not None
        signature = inspect.signature(self._encode)
        asked = dict(signature.bind(*args, **kwargs).arguments)
        for name in [name for name in asked if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD]:
            asked.update(asked.pop(name))
        prompts = asked.pop("prompt", None)
        prompts = [prompts] if isinstance(prompts, str) else prompts
        texts = isinstance(prompts, list) and all(isinstance(each, str) for each in prompts)
        shared = all(_plain(value, name) for name, value in asked.items())
        return (list(prompts) if texts and shared else []), asked

    def _one(self, prompt: str, asked: dict[str, Any]) -> Any:
        """What is made of a prompt by itself, encoded once."""
        how = repr(sorted((name, repr(value)) for name, value in asked.items() if name != "device"))  # cuda is cuda:0

        def encode() -> Any:
            made = self._encoded(prompt=[prompt], **asked)
            if _form(made) is _FOREIGN:
                self.keeps = False
                raise _Apart
            self.keeps = True
            return made

        made = self.encodings.get(repr((prompt, how)), encode)
        self._forms.setdefault(how, set()).add(_form(made))
        device = asked.get("device") or self._pipe._execution_device
        return each(made, lambda tensor: tensor.to(device))

    def _encoded(self, *args: Any, **kwargs: Any) -> Any:
        """What the pipeline itself makes.

        Raises:
            ModelError: If its text encoders have been dropped.
        """
        assert self._encode is not None
        if text_encoders_are_gone(self._pipe):
            prompt = inspect.signature(self._encode).bind(*args, **kwargs).arguments.get("prompt")
            raise ModelError(f"the pipeline cannot encode the prompt {prompt!r}: its text encoders have been dropped")
        return self._encode(*args, **kwargs)


class _Apart(Exception):  # noqa: N818  # not an error: prompts that cannot be joined
    pass


def _plain(value: Any, name: str) -> bool:
    """Whether an argument is the same for every row, and says all of itself when it is printed."""
    if isinstance(value, list | tuple):
        return "prompt" not in name and all(_plain(item, name) for item in value)
    if isinstance(value, dict):
        return all(_plain(item, name) for item in value.values())
    return isinstance(value, _PLAIN)


def _form(made: Any) -> Any:
    """All of a result but its numbers; of a list, whose items are rows, how many there are."""
    if isinstance(made, Tensor):
        return made.dtype, tuple(made.shape)
    if isinstance(made, list) and all(isinstance(part, Tensor) for part in made):
        return "rows", len(made)
    if isinstance(made, tuple):
        forms = tuple(_form(part) for part in made)
        return _FOREIGN if _FOREIGN in forms else forms
    return None if made is None else _FOREIGN


def _joined(rows: Sequence[Any]) -> Any:
    """Results of several prompts as the result of one batch; none of its tensors is one of theirs.

    A tensor of one row is joined with others; one that is no row, such as positions, must be the same for all.

    Raises:
        _Apart: If they differ in more than numbers.
    """
    first = rows[0]
    if any(_form(row) != _form(first) for row in rows):
        raise _Apart
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*rows, strict=True))
    if isinstance(first, list):
        return [item.clone() for row in rows for item in row]
    if not isinstance(first, Tensor):
        return None
    if first.ndim > 0 and len(first) == 1:
        return torch.cat(list(rows))
    if not all(torch.equal(first, row) for row in rows):
        raise _Apart
    return first.clone()


def _alike(joined: Any, together: Any) -> bool:
    """Whether two results are the same but for rounding."""
    if isinstance(joined, Tensor) and isinstance(together, Tensor):
        if joined.shape != together.shape or joined.dtype != together.dtype:
            return False
        one, other = joined.cpu().double(), together.cpu().double()  # some devices have no float64
        return bool((one - other).norm() <= 0.05 * other.norm())
    if isinstance(joined, tuple | list) and type(joined) is type(together):
        return len(joined) == len(together) and all(map(_alike, joined, together))
    return joined is None and together is None


def _rows_differ(alone: Any, together: Any, number: int) -> bool:
    """Whether a prompt alone is one row and several are a row each, but of another shape."""
    if isinstance(alone, Tensor) and isinstance(together, Tensor):
        return alone.shape[:1] == (1,) and together.shape[:1] == (number,) and alone.shape[1:] != together.shape[1:]
    if isinstance(alone, tuple) and isinstance(together, tuple):
        return any(_rows_differ(one, other, number) for one, other in zip(alone, together, strict=False))
    return False

"""Cache the results of a pipeline's own `encode_prompt`, one prompt at a time.

A calibration uses the same few prompts again and again, and a stock pipeline would encode them each time. While the
cache is active, the pipeline gets each prompt's earlier result, encoded alone and joined with the others in the order
of the batch. A prompt's encoding therefore does not depend on its neighbours.

Results that cannot be joined, such as those of prompts with different lengths, are left to the pipeline. Whether
joining is correct for a pipeline is tested first, by encoding a prompt twice in one batch.
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

_FOREIGN = "foreign"  # the form of a result that holds anything other than tensors
_PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class PromptCache:
    """The results of a pipeline's `encode_prompt` for each prompt.

    Attributes:
        keeps: Whether the results can be kept; None before the first call.
        encodings: The results.
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
        """Whether prompts encoded one by one can replace prompts encoded together."""
        return bool(self._verdicts) and all(self._verdicts)

    @contextmanager
    def remembering(self, *, checking: bool = False) -> Iterator[None]:
        """Redirect the pipeline's `encode_prompt` to this cache within the block.

        Args:
            checking: Whether to test with the pipeline's next batch if prompts can be joined.
        """
        if self._encode is None:
            yield
            return
        self._pipe.encode_prompt = self._checked if checking else self._remembered
        try:
            yield
        finally:
            del self._pipe.encode_prompt  # makes the class's method visible again

    def of_one_form(self) -> bool:
        """Return whether all results differ in their numbers only, so that any of them can be joined."""
        return all(len(forms) == 1 for forms in self._forms.values())

    def probe(self, look: Callable[[], object]) -> str:
        """Return a digest of the prompts that `look` gives to the pipeline, encoded again without the cache."""
        known, self.encodings = self.encodings, Encodings()
        try:
            look()
            return self.encodings.checksum()
        finally:
            self.encodings = known

    def _remembered(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the pipeline's `encode_prompt`, and return joined earlier results if possible."""
        prompts, asked = self._asked(args, kwargs)
        if self.keeps is not False and prompts and (self.joins or len(prompts) == 1):
            try:
                return _joined(self._alone(prompts, asked))
            except _Apart:
                pass
        return self._encoded(*args, **kwargs)

    def _checked(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the pipeline's `encode_prompt` without joining, and test whether its results can be joined.

        Raises:
            ModelError: If a prompt's encoding, and therefore an output, depends on the other prompts of its batch.
        """
        prompts, asked = self._asked(args, kwargs)
        together = self._encoded(*args, **kwargs)
        if len(prompts) < 2:
            return together
        try:
            alone = self._alone(prompts, asked)
            self._verdicts.append(_alike(_joined(alone), together))
        except _Apart:
            self._verdicts.append(False)
            return together
        if _rows_differ(alone[0], together, len(prompts)):
            raise ModelError(
                f"a {type(self._pipe).__name__} encodes a prompt differently in a batch than alone, so its outputs "
                "would depend on their neighbours; set batch_size: 1"
            )
        return together

    def _asked(self, args: Any, kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        """Split a call's arguments into its prompts and the rest; no prompts if the call cannot be cached."""
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

    def _alone(self, prompts: Sequence[str], asked: dict[str, Any]) -> list[Any]:
        """Return the result of each prompt, encoded alone, on the device that is asked for."""
        device = asked.get("device") or self._pipe._execution_device
        return [each(self._one(prompt, asked), lambda tensor: tensor.to(device)) for prompt in prompts]

    def _one(self, prompt: str, asked: dict[str, Any]) -> Any:
        """Return a prompt's result, encoded only at its first use."""
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
        return made

    def _encoded(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pipeline's original `encode_prompt`.

        Raises:
            ModelError: If the pipeline's text encoders have been dropped.
        """
        assert self._encode is not None
        if text_encoders_are_gone(self._pipe):
            prompt = inspect.signature(self._encode).bind(*args, **kwargs).arguments.get("prompt")
            raise ModelError(f"the pipeline cannot encode the prompt {prompt!r}: its text encoders have been dropped")
        return self._encode(*args, **kwargs)


class _Apart(Exception):  # noqa: N818  # not an error: prompts that cannot be joined
    pass


def _plain(value: Any, name: str) -> bool:
    """Return whether an argument applies to all rows alike, and its `repr` holds all of its content."""
    if isinstance(value, list | tuple):
        return "prompt" not in name and all(_plain(item, name) for item in value)
    if isinstance(value, dict):
        return all(_plain(item, name) for item in value.values())
    return isinstance(value, _PLAIN)


def _form(made: Any) -> Any:
    """Return everything of a result except its numbers; for a list, whose items are rows, only its length."""
    if isinstance(made, Tensor):
        return made.dtype, tuple(made.shape)
    if isinstance(made, list) and all(isinstance(part, Tensor) for part in made):
        return "rows", len(made)
    if isinstance(made, tuple):
        forms = tuple(_form(part) for part in made)
        return _FOREIGN if _FOREIGN in forms else forms
    return None if made is None else _FOREIGN


def _joined(rows: Sequence[Any]) -> Any:
    """Join the results of several prompts into the result of one batch, with new tensors.

    Tensors with one row are concatenated; other tensors, such as positions, must be the same for all prompts.

    Raises:
        _Apart: If the results differ in more than their numbers.
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
    """Return whether two results are the same up to rounding."""
    if isinstance(joined, Tensor) and isinstance(together, Tensor):
        if joined.shape != together.shape or joined.dtype != together.dtype:
            return False
        one, other = joined.cpu().double(), together.cpu().double()  # some devices have no float64
        return bool((one - other).norm() <= 0.05 * other.norm())
    if isinstance(joined, tuple | list) and type(joined) is type(together):
        return len(joined) == len(together) and all(map(_alike, joined, together))
    return joined is None and together is None


def _rows_differ(alone: Any, together: Any, number: int) -> bool:
    """Return whether a prompt gives one row both alone and in a batch, but rows of different shapes."""
    if isinstance(alone, Tensor) and isinstance(together, Tensor):
        return alone.shape[:1] == (1,) and together.shape[:1] == (number,) and alone.shape[1:] != together.shape[1:]
    if isinstance(alone, tuple) and isinstance(together, tuple):
        return any(_rows_differ(one, other, number) for one, other in zip(alone, together, strict=False))
    return False

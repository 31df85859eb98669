"""Kept outputs: files named by a digest of their content, so that equal outputs are stored once.

an image    PNG
an answer   JSON: an object with the fields of `engine.answer.Answer`, or a string if the output was a mere text
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engine.answer import Answer, Likelihood
from ..ground.errors import StoreError
from ..ground.plain import plain
from .sentences import sentences

IMAGES = "images"  # the folder beside the database; it holds answers too
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
PNG, JSON = ".png", ".json"


@dataclass(frozen=True)
class Keeper:
    """A callable that writes outputs to a folder; it can be sent to another process.

    Attributes:
        folder: The folder of all outputs; made if absent.
    """

    folder: Path

    def __call__(self, outputs: Sequence[Any]) -> list[str]:
        """Write outputs; equal ones share one file.

        Returns:
            The names of the files, relative to the folder.

        Raises:
            StoreError: If an output cannot be written.
        """
        with sentences(f"cannot write {self.folder}"):
            return [write_output(self.folder, output) for output in outputs]


def write_output(folder: Path, output: Any) -> str:
    """Write an output.

    Args:
        folder: The folder of all outputs.
        output: A PIL image, converted to RGB if PNG does not support its mode; an `Answer`; or a text.

    Returns:
        The name of its file, relative to the folder. The file is either complete or absent.
    """
    content, ending = (_text(output), JSON) if isinstance(output, (str, Answer)) else (_png(output), PNG)
    name = _name_of(content, ending)
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        draft.write_bytes(content)
        draft.replace(path)
    return name


def read_output(folder: Path, name: str) -> Any:
    """Read a kept output.

    Raises:
        StoreError: If its file is missing or damaged.
    """
    from PIL import UnidentifiedImageError

    content, is_text = read_bytes(folder, name), name.endswith(JSON)
    try:
        return _answer(content) if is_text else _image(content)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"the {_called(name)} {folder / name} is damaged ({error}); it cannot be scored") from None


def read_bytes(folder: Path, name: str) -> bytes:
    """Return the file of a kept output, PNG or JSON.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    path = folder / name
    try:
        content = path.read_bytes()
        if _name_of(content, path.suffix) != name:
            raise OSError("its content is not what its name says")
        return content
    except OSError as error:
        raise StoreError(f"the {_called(name)} {path} is gone or damaged ({error}); it cannot be scored") from None


def _called(name: str) -> str:
    return f"kept {'answer' if name.endswith(JSON) else 'image'}"


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _image(content: bytes) -> Any:
    from PIL import Image

    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def _text(output: str | Answer) -> bytes:
    """Return an answer as JSON; numbers are written with the shortest digits that read back exactly."""
    said = output if isinstance(output, str) else plain(asdict(output), "an answer", StoreError)
    return json.dumps(said, allow_nan=False, separators=(",", ":")).encode("ascii")


def _answer(content: bytes) -> str | Answer:
    said = json.loads(content)
    if isinstance(said, str):
        return said
    reference = said.pop("reference")
    return Answer(
        text=said.pop("text"),
        tokens=tuple(said.pop("tokens")),
        logprobs=tuple(said.pop("logprobs")),
        reference=None if reference is None else Likelihood(**reference),
        options=tuple(Likelihood(**each) for each in said.pop("options")),
        **said,
    )


def _name_of(content: bytes, ending: str) -> str:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return f"{digest[:2]}/{digest[2:]}{ending}"

"""Kept images: PNG files named by their content, so that equal images are kept once."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ground.errors import StoreError
from .sentences import sentences

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = "images"  # the folder beside the database
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class Keeper:
    """Keeps images in a folder, in whatever process.

    Attributes:
        folder: Of all images; made if absent.
    """

    folder: Path

    def __call__(self, images: Sequence[Any]) -> list[str]:
        """Keep images; an equal one once, however often it is made.

        Returns:
            The files' names below the folder.

        Raises:
            StoreError: If one cannot be written.
        """
        with sentences(f"cannot write {self.folder}"):
            return [write_image(self.folder, image) for image in images]


def write_image(folder: Path, image: Any) -> str:
    """Keep an image.

    Args:
        folder: Of all images.
        image: A PIL image; kept as it is, or as RGB where PNG has no such mode.

    Returns:
        Its file's name below the folder. The file is whole or absent.
    """
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG", compress_level=1)
    name = _name_of(buffer.getvalue())
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        draft.write_bytes(buffer.getvalue())
        draft.replace(path)
    return name


def read_image(folder: Path, name: str) -> Image:
    """A kept image.

    Raises:
        StoreError: If its file is gone or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    path = folder / name
    try:
        content = path.read_bytes()
        if _name_of(content) != name:
            raise OSError("its content is not what its name says")
        image: Image.Image = Image.open(io.BytesIO(content))
        image.load()
        return image
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise StoreError(f"the kept image {path} is gone or damaged ({error}); it cannot be scored") from None


def _name_of(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return f"{digest[:2]}/{digest[2:]}.png"

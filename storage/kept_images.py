"""Kept images: PNG files named by a digest of their content, so that equal images are stored once."""

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
    """A callable that writes images to a folder; it can be sent to another process.

    Attributes:
        folder: The folder of all images; made if absent.
    """

    folder: Path

    def __call__(self, images: Sequence[Any]) -> list[str]:
        """Write images; equal images share one file.

        Returns:
            The names of the files, relative to the folder.

        Raises:
            StoreError: If an image cannot be written.
        """
        with sentences(f"cannot write {self.folder}"):
            return [write_image(self.folder, image) for image in images]


def write_image(folder: Path, image: Any) -> str:
    """Write an image as PNG.

    Args:
        folder: The folder of all images.
        image: A PIL image; converted to RGB if PNG does not support its mode.

    Returns:
        The name of its file, relative to the folder. The file is either complete or absent.
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
    """Read a kept image.

    Raises:
        StoreError: If its file is missing or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(read_bytes(folder, name)))
        image.load()
        return image
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise StoreError(f"the kept image {folder / name} is damaged ({error}); it cannot be scored") from None


def read_bytes(folder: Path, name: str) -> bytes:
    """Return the PNG file of a kept image.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    path = folder / name
    try:
        content = path.read_bytes()
        if _name_of(content) != name:
            raise OSError("its content is not what its name says")
        return content
    except OSError as error:
        raise StoreError(f"the kept image {path} is gone or damaged ({error}); it cannot be scored") from None


def _name_of(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return f"{digest[:2]}/{digest[2:]}.png"

"""Pictures from anywhere, brought into the form in which a study shows them, and folders of them with their prompts.

What a picture's file tells besides the picture (its format, its metadata, its exact size) could tell a rater where it
comes from. So every picture becomes plain RGB, all pictures of an item get one size, and metadata are left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ground.errors import ConfigError, Notice, first_line
from ..ground.listings import read_listing
from .design import Item

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
PROMPTS = ("prompts.jsonl", "prompts.json", "prompts.csv", "prompts.txt", "metadata.jsonl", "metadata.csv")
FILE_COLUMNS = ("file", "file_name", "filename", "image", "picture", "name")
WHITE, GREY = (255, 255, 255), (128, 128, 128)


@dataclass(frozen=True)
class Sets:
    """Sets of pictures of the same items.

    Attributes:
        labels: The name of each set.
        items: The prompts.
        pictures: For each set one picture for every item, as PIL images or paths of files.
        scores: As in `studies.design.Design`.
        sources: What is known of their origin.
    """

    labels: tuple[str, ...]
    items: tuple[Item, ...]
    pictures: tuple[tuple[Any, ...], ...]
    scores: Mapping[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)


def folder_sets(folders: Sequence[Path], prompts: Path | None) -> Sets:
    """Read folders whose pictures have matching names, up to the ending.

    Args:
        folders: At least two folders.
        prompts: A file of the prompts: with a column that names the picture, such as `file`, or one prompt for each
            picture in the order of their names. None looks for `PROMPTS` in the folders.

    Raises:
        ConfigError: If the names do not match, or there is not one prompt for each.
    """
    found = [_named(folder) for folder in folders]
    for folder, names in zip(folders[1:], found[1:], strict=True):
        for one, other, place, lacks in ((found[0], names, folders[0], folder), (names, found[0], folder, folders[0])):
            alone = sorted(set(one) - set(other), key=_natural)
            if alone:
                raise ConfigError(
                    f"{place} holds {len(alone)} pictures that {lacks} lacks, such as {one[alone[0]].name!r}; a study "
                    f"shows pairs of the same name"
                )
    order = sorted(found[0], key=_natural)
    texts = _prompts_for(order, prompts or _prompts_in(folders), folders[0])
    items = tuple(Item(texts[name], None, name) for name in order)
    return Sets(_labels(folders), items, tuple(tuple(each[name] for name in order) for each in found))


def opened(picture: Any) -> Image:
    """Return a picture as plain RGB without metadata, upright, in the colours of sRGB, on white where transparent.

    Args:
        picture: A PIL image, or the path of a file.

    Raises:
        ConfigError: If a file cannot be read as a picture.
    """
    from PIL import Image, ImageOps

    if not isinstance(picture, Path):
        return _plain(picture)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(picture) as image:
                image.load()
                return _plain(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ConfigError(f"{picture} cannot be read as a picture ({first_line(error)}); replace it") from None


def of_one_size(pictures: Sequence[Image]) -> list[Image]:
    """Return pictures in the size of the smallest of them; another shape is kept, with grey beside it."""
    from PIL import Image, ImageOps

    size = min(each.width for each in pictures), min(each.height for each in pictures)
    return [
        each if each.size == size else ImageOps.pad(each, size, method=Image.Resampling.LANCZOS, color=GREY)
        for each in pictures
    ]


def shuffled(picture: Image, seed: int) -> Image:
    """Return a picture with its pixels in another order: noise with the same colours."""
    from PIL import Image

    pixels = np.asarray(picture).reshape(-1, 3)
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))).permutation(len(pixels))
    return Image.fromarray(pixels[order].reshape(picture.height, picture.width, 3))


def _plain(image: Image) -> Image:
    from PIL import Image

    image = _in_srgb(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / (257 if values.max(initial=0) > 255 else 1)).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, (*WHITE, 255)), above)
    plain = image.convert("RGB")
    return Image.frombytes("RGB", plain.size, plain.tobytes())  # what is known besides the pixels stays behind


def _in_srgb(image: Image) -> Image:
    import io

    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile: shown without it, as browsers do
        return image
    return image if made is None else made


def _named(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by name without ending."""
    try:
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror or error}") from None
    found: dict[str, Path] = {}
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.stem in found:
            raise ConfigError(f"{folder} holds {found[path.stem].name!r} and {path.name!r}; keep one picture of a name")
        found[path.stem] = path
    if not found:
        raise ConfigError(f"{folder} holds no pictures ({', '.join(each[1:] for each in SUFFIXES)})")
    return found


def _prompts_in(folders: Sequence[Path]) -> Path:
    found = [folder / name for folder in folders for name in PROMPTS if (folder / name).is_file()]
    if not found:
        raise ConfigError(
            f"no prompts for the pictures of {folders[0]}; give a file with --prompts, or put a {PROMPTS[0]} there"
        )
    if any(path.read_bytes() != found[0].read_bytes() for path in found[1:]):
        raise ConfigError(f"{found[0]} and {found[1]} differ; say with --prompts which to use")
    return found[0]


def _prompts_for(names: Sequence[str], file: Path, folder: Path) -> dict[str, str]:
    """Return the prompt of every picture."""
    listing = read_listing(file)
    for notice in listing.notices:
        warnings.warn(f"{file}: {notice}" if str(file) not in notice else notice, Notice, stacklevel=4)
    column = next((each for each in listing.others if each.casefold() in FILE_COLUMNS), None)
    if column is None:
        if len(listing.rows) != len(names):
            raise ConfigError(
                f"{file} holds {len(listing.rows)} prompts for the {len(names)} pictures of {folder}; give one for "
                f"each in the order of their names, or name the picture of each in a column {FILE_COLUMNS[0]!r}"
            )
        return {name: row.prompt for name, row in zip(names, listing.rows, strict=True)}
    found: dict[str, str] = {}
    for row in listing.rows:
        name = Path(str(row.metadata.get(column, "")).replace("\\", "/")).name
        stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
        if found.setdefault(stem, row.prompt) != row.prompt:
            raise ConfigError(f"{file} gives {name!r} two prompts; give it one")
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ConfigError(f"{file} has no prompt for {len(lacking)} pictures, such as {lacking[0]!r}; add them")
    return {name: found[name] for name in names}


def _labels(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for each folder: as many of the last parts of its path as make it unlike the others."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise ConfigError("the same folder is given twice; a study compares different sets of pictures")
    depth = next(n for n in range(1, 1000) if len({each[-n:] for each in parts}) == len(parts))
    return tuple("/".join(each[-depth:]) for each in parts)


def _natural(name: str) -> tuple[str, str]:
    return re.sub(r"\d+", lambda digits: digits[0].zfill(20), name), name

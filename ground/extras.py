"""The packages that only some of trimpot's work needs, and the extra that installs each.

`pip install trimpot` brings what applying a calibration needs. Everything else comes with an extra:
`pip install 'trimpot[calibrate]'`. Each use of such a package begins with `require`, so that a missing package is one
sentence; an import that fails without one is turned into the same sentence by whoever catches it, with `missing`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

from .errors import MissingError

#: Extra to the packages that it installs, each by the name under which Python imports it.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "calibrate": ("cma", "moocore", "nevergrad", "plotly", "scipy", "sqlite_utils", "tenacity", "threadpoolctl"),
    "ocr": ("onnxruntime", "rapidfuzz", "rapidocr"),
    "parquet": ("pyarrow",),
    "ray": ("ray",),
    "peft": ("peft",),
    "quantization": ("bitsandbytes", "gguf", "torchao"),
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "web": ("starlette", "uvicorn"),
    "test": ("hypothesis", "pytest"),
}
EXTRA_OF = {package: extra for extra, packages in EXTRAS.items() for package in packages}


def require(what: str, *packages: str) -> None:
    """Refuse work whose packages are not installed; nothing is imported.

    Args:
        what: What needs the packages, as the subject of a sentence: `the objective 'ocr'`.
        *packages: The packages, by the names under which Python imports them, all of one extra.

    Raises:
        MissingError: If a package is not installed; the message names the extra that installs it.
    """
    if absent := [package for package in packages if not is_installed(package)]:
        raise MissingError(_sentence(what, absent))


def missing(error: BaseException, what: str) -> MissingError | None:
    """Return the error to raise for an import that failed since a package of an extra is absent, else None.

    Args:
        error: The error that was caught.
        what: What needed the package, as the subject of a sentence.
    """
    package = ((error.name if isinstance(error, ImportError) else "") or "").partition(".")[0]
    absent = package in EXTRA_OF and not is_installed(package)
    return MissingError(_sentence(what, [package])) if absent else None


def _sentence(what: str, absent: list[str]) -> str:
    *others, last = absent
    listed = f"{', '.join(others)} and {last}" if others else last
    them = "them" if others else "it"
    return f"{what} needs {listed}; install {them} with: pip install 'trimpot[{EXTRA_OF[last]}]'"


def is_installed(package: str) -> bool:
    """Return whether a package can be found, without importing it."""
    if package in sys.modules:
        return sys.modules[package] is not None
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that refuses
        return False

"""Bake a calibration into a copy of the single file that a model came from, in the layout of the file's authors.

diffusers converts such files to its own names, and has no way back. The way back is found by running its converter on
markers: every row of every weight of the file is given a number in place of its values. Where the numbers arrive is
where the rows arrive. The rows that a scale is folded into are then replaced in a copy of the file, byte for byte;
everything else in it stays. The copy is converted again and compared with what it should have become.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, first_line
from .baked import write_note
from .folding import plain_parameters, scaled
from .single import folded

INSTEAD = "export it as baked without an original file"
UNQUANTIZED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Entry(NamedTuple):
    """One weight of a .safetensors file: its shape, and where its first byte is."""

    shape: tuple[int, ...]
    begin: int

    @property
    def num_rows(self) -> int:
        """The length of the first axis; 1 for a scalar."""
        return self.shape[0] if self.shape else 1


class Rows(NamedTuple):
    """Where the rows of a file's weights arrive in diffusers.

    Attributes:
        firsts: For each name in the file, in order, the number of its first row.
        arrived: For each name in diffusers, the numbers of its rows; None where the converter moves more than rows.
    """

    firsts: dict[str, int]
    arrived: dict[str, Tensor | None]

    def source(self, number: int) -> tuple[str, int]:
        """Return the name and the row in the file that a number stands for."""
        names, firsts = list(self.firsts), list(self.firsts.values())
        at = int(np.searchsorted(firsts, number, side="right")) - 1
        return names[at], number - firsts[at]


def bake_file(pipe: Any, calibration: Calibration, original: Path, folder: Path) -> Path:
    """Write a copy of the file that a pipeline's transformer came from, with a calibration folded into it.

    The pipeline is not changed.

    Args:
        pipe: The pipeline that was calibrated.
        calibration: The calibration; an ensemble cannot be baked.
        original: The .safetensors file, which may hold other components too.
        folder: The folder to write: the copy under the file's name, and the transformer's config.json.

    Returns:
        The copy, for `from_single_file(copy, config=folder)`.

    Raises:
        CalibrationError: If the calibration cannot be folded, diffusers cannot load such a file, or the file is
            quantized or does not hold the pipeline's weights.
    """
    model, places, scales = folded(pipe, calibration)
    plain_parameters(model, places)
    loads_single_files(type(model))
    entries = entries_of(original)
    before = _loaded(model, original)
    _check_same(model, before, original.name)
    rows = source_rows(model, entries, original.name)
    wanted = dict(before)
    changed: list[tuple[str, int, int]] = []
    for place, scale in zip(places, scales, strict=True):
        for name, axis, begin, end, shift in place:
            _check_unquantized(name, before[name], original.name)
            if axis or rows.arrived.get(name) is None:
                raise CalibrationError(
                    f"diffusers' converter moves more than the rows of {name}, so they cannot be found in "
                    f"{original.name}; {INSTEAD}"
                )
            if wanted[name] is before[name]:
                wanted[name] = before[name].clone()
            part = wanted[name][begin:end]
            part.copy_(scaled(part, scale, shift))
            changed.append((name, begin, end))
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / original.name
    shutil.copyfile(original, copy)
    copy.chmod(0o644)
    with copy.open("r+b") as file:
        for name, begin, end in changed:
            numbers = rows.arrived[name]
            assert numbers is not None
            _write_rows(file, entries, rows, numbers[begin:end], wanted[name][begin:end])
    after = _loaded(model, copy)
    wrong = [name for name, value in wanted.items() if not torch.equal(value, after[name])]
    if wrong:
        raise CalibrationError(
            f"diffusers' converter does more to {wrong[0]} than to move its rows, so {original.name} cannot be baked; "
            f"{INSTEAD}"
        )
    to: Any = model
    to.save_config(str(folder))
    write_note(calibration, len(scales), folder)
    return copy


def loads_single_files(kind: type[Any]) -> None:
    """Check that diffusers loads a class from a single file.

    Raises:
        CalibrationError: If it does not.
    """
    from diffusers.loaders.single_file_model import _get_single_file_loadable_mapping_class

    if not hasattr(kind, "from_single_file") or _get_single_file_loadable_mapping_class(kind) is None:
        raise CalibrationError(f"diffusers loads no {kind.__name__} from a single file; {INSTEAD}")


def entries_of(path: Path) -> dict[str, Entry]:
    """Return the weights of a .safetensors file by name, without reading their values.

    Raises:
        CalibrationError: If the file is not there, is of another format, or is damaged.
    """
    if path.suffix != ".safetensors":
        raise CalibrationError(f"{path} is not a .safetensors file, and only such a file can be baked; {INSTEAD}")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        start, end = 8 + length, path.stat().st_size
        entries = {
            name: Entry(tuple(found["shape"]), start + int(found["data_offsets"][0]))
            for name, found in header.items()
            if name != "__metadata__"
        }
        whole = all(start + found["data_offsets"][1] <= end for name, found in header.items() if name in entries)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, KeyError, AttributeError, MemoryError, OverflowError):
        raise CalibrationError(f"{path} is damaged or incomplete; download it again") from None
    if not entries or not whole:
        raise CalibrationError(f"{path} is {'damaged or incomplete' if entries else 'empty'}; download it again")
    return entries


def source_rows(model: Any, entries: Mapping[str, Entry], what: str) -> Rows:
    """Find out where each row of a file arrives in diffusers, by converting markers instead of weights.

    Args:
        model: The transformer.
        entries: The weights of the file.
        what: The file's name for error messages.

    Raises:
        CalibrationError: If diffusers cannot convert such a file.
    """
    firsts: dict[str, int] = {}
    markers: dict[str, Tensor] = {}
    total = 0
    for name, entry in entries.items():
        firsts[name] = total
        numbers = torch.arange(total, total + entry.num_rows)
        markers[name] = numbers.reshape(entry.shape[:1] + (1,) * (len(entry.shape) - 1)).expand(entry.shape)
        total += max(entry.num_rows, 1)
    with _FirstColumns():
        converted = _converted(model, markers, what)
    return Rows(firsts, {name: _row_numbers(value) for name, value in converted.items()})


class _FirstColumns(TorchFunctionMode):
    """Within the block, join markers by their first columns, which all columns repeat, so that they take no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.cat and (args[1] if len(args) > 1 else kwargs.get("dim", 0)) == 0:
            parts = args[0] if args else kwargs["tensors"]
            columns = [column for part in parts if (column := _row_numbers(part)) is not None]
            if len(columns) == len(parts):
                tail = parts[0].shape[1:]
                return func(columns).reshape(-1, *[1] * len(tail)).expand(-1, *tail)
        return func(*args, **kwargs)


def _row_numbers(marker: Tensor) -> Tensor | None:
    """Return the number in each row of a marker; None if the numbers in a row differ."""
    if marker.ndim == 0:
        return marker.reshape(1)
    if marker.numel() == 0:
        return None
    column = marker
    while column.ndim > 1:
        column = column.select(-1, 0)
    repeated = all(stride == 0 or size == 1 for size, stride in zip(marker.shape[1:], marker.stride()[1:], strict=True))
    same = repeated or bool((marker == column.reshape(-1, *[1] * (marker.ndim - 1))).all())
    return column if same else None


def _loaded(model: Any, path: Path) -> dict[str, Tensor]:
    """Return a file's weights as diffusers names and lays them out."""
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises a class of its own
        raise CalibrationError(f"{path} cannot be read: {first_line(error)}") from None
    return _converted(model, state, path.name)


def _converted(model: Any, state: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """Convert a file's weights as `from_single_file` does, and keep those of the model."""
    from diffusers.loaders.single_file_model import (
        SINGLE_FILE_LOADABLE_CLASSES,
        _get_single_file_loadable_mapping_class,
    )

    names, kind = set(model.state_dict()), type(model)
    if set(state) != names:
        convert = SINGLE_FILE_LOADABLE_CLASSES[_get_single_file_loadable_mapping_class(kind)]["checkpoint_mapping_fn"]
        try:
            state = convert(config=dict(model.config), checkpoint=dict(state))
        except Exception:  # the file belongs to another model, or another size
            raise CalibrationError(
                f"diffusers cannot convert {what} to a {kind.__name__} of this size; give the file that this model "
                f"came from, or {INSTEAD}"
            ) from None
    if missing := sorted(names - set(state)):
        raise CalibrationError(
            f"{what} lacks {missing[0]} of a {kind.__name__}; give the file that this model came from, or {INSTEAD}"
        )
    return {name: state[name] for name in names}


def _check_same(model: Any, found: Mapping[str, Tensor], what: str) -> None:
    """Refuse a file that does not hold the pipeline's weights, to the bit in the narrower of the two dtypes."""
    for name, value in model.state_dict().items():
        theirs, ours = found[name], value.cpu()
        narrow = theirs.dtype if theirs.itemsize < ours.itemsize else ours.dtype
        if theirs.shape != ours.shape or not torch.equal(theirs.to(narrow), ours.to(narrow)):
            raise CalibrationError(
                f"{what} does not hold the weights of this pipeline: {name} differs; give the file that the model came "
                f"from, or {INSTEAD}, which keeps a LoRA that is merged into the weights"
            )


def _check_unquantized(name: str, value: Tensor, what: str) -> None:
    if value.dtype not in UNQUANTIZED:
        raise CalibrationError(
            f"{what} holds {name} as {str(value.dtype).removeprefix('torch.')}, and only unquantized weights can be "
            f"baked; give the file in bfloat16, float16 or float32, or {INSTEAD}"
        )


def _write_rows(file: Any, entries: Mapping[str, Entry], rows: Rows, numbers: Tensor, values: Tensor) -> None:
    """Write values of shape (rows, ...) to where the rows of these numbers are in the file."""
    raw = values.contiguous().view(torch.uint8).reshape(len(numbers), -1).numpy()
    for run in _runs(numbers.tolist(), set(rows.firsts.values())):
        name, row = rows.source(int(numbers[run.start]))
        file.seek(entries[name].begin + row * raw.shape[1])
        file.write(raw[run].tobytes())


def _runs(numbers: Sequence[int], firsts: Collection[int]) -> list[slice]:
    """Return slices of a list within which each number is one more than the one before, and of the same weight."""
    breaks = [at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1] + 1 or numbers[at] in firsts]
    return [slice(begin, end) for begin, end in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]

"""Calibrations by trimpot, as a node of ComfyUI: MODEL in, MODEL out.

`trimpot export RUN --as comfyui` copies this file as `__init__.py` into a folder for `custom_nodes`. It needs PyTorch
only. A calibration is data: module paths and numbers. While the model runs, forward hooks multiply the outputs of its
modules by a factor for each row of the batch; they are gone when the call ends, so the model itself stays untouched.
If the calibration has an unconditional member, the members' weights replace the sampler's guidance.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT, VERSION = "trimpot-comfyui", 1
FOLDER, SUFFIX = "calibrations", ".trimpot.json"
KEY = "trimpot"
APPLY_MODEL, PREDICT_NOISE = "apply_model", "predict_noise"  # as in comfy.patcher_extension.WrappersMP
COMPILED = "torch.compile"  # the wrapper of the node TorchCompileModel
SEES = ("conditional", "unconditional", "all")


def read(path: Path) -> dict[str, Any]:
    """Read and check a calibration.

    Raises:
        ValueError: If the file is no calibration that this node can apply.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path.name} is no calibration for ComfyUI; write it with trimpot export --as comfyui")
    if found.get("version") != VERSION:
        raise ValueError(f"{path.name} is of another version of trimpot; export it again, with this node's folder")
    try:
        _check(found)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is damaged ({error}); export it again") from None
    return found


def _check(found: Mapping[str, Any]) -> None:
    sites, members = found["sites"], found["members"]
    if not isinstance(found["model"], str) or not isinstance(found["rescaled"], bool) or not sites or not members:
        raise ValueError("no model, sites or members")
    for name, count in found["blocks"].items():
        if type(count) is not int:
            raise ValueError(f"blocks of {name}")
    for site in sites:
        path, part = site["module"], site["part"]
        if not isinstance(path, str) or not path or not (part is None or (type(part) is int and part >= 0)):
            raise ValueError("a site")
    for member in members:
        numbers = [member["weight"], member["neutral_weight"], *member["scales"]]
        if len(member["scales"]) != len(sites) or member["sees"] not in SEES:
            raise ValueError("a member")
        if not all(type(each) in (int, float) and math.isfinite(each) for each in numbers):
            raise ValueError("a number")
    sees = [member["sees"] for member in members]
    if sees != ["all"] and ("all" in sees or "conditional" not in sees):
        raise ValueError("its members")
    if found["rescaled"] and sorted(sees) != ["conditional", "unconditional"]:
        raise ValueError("the norm of its members")


class Calibrated:
    """A calibration at a strength, applied to whatever model calls it.

    Args:
        found: The calibration, as `read` returns it.
        strength: 0 gives the neutral model at its best guidance, 1 the calibrated one.
    """

    def __init__(self, found: Mapping[str, Any], strength: float) -> None:
        members = found["members"]
        self.model: str = found["model"]
        self.blocks: Mapping[str, int] = found["blocks"]
        self.sites = [(site["module"], site["part"]) for site in found["sites"]]
        self.scales = [[1 + strength * (scale - 1) for scale in member["scales"]] for member in members]
        weights = [
            member["neutral_weight"] + strength * (member["weight"] - member["neutral_weight"]) for member in members
        ]
        kinds = [int(member["sees"] == "unconditional") for member in members]
        self.guides = 1 in kinds
        self.groups = [[member for member, each in enumerate(kinds) if each == kind] for kind in (0, 1)]
        # Rows of one kind are summed over its members, relative to the largest weight, which `guide` multiplies by.
        largest = [max((weights[member] for member in group), key=abs, default=0.0) for group in self.groups]
        self.weights = largest if self.guides else [1.0, 1.0]
        self.shares = [
            1.0 if len(self.groups[kind]) == 1 else weight / (self.weights[kind] or 1.0)
            for kind, weight in zip(kinds, weights, strict=True)
        ]
        self.rescaled: bool = found["rescaled"]
        self._seen: set[int] = set()  # what the rows of this step saw: 0 the prompt, 1 the negative prompt
        self._guided = False  # in this step
        self._ran = False  # whether any hook ever ran

    def __deepcopy__(self, _memo: object) -> Calibrated:
        """Stay one object: a clone of a model copies its options deeply, but not its wrappers."""
        return self

    def attach(self, patcher: Any) -> Any:
        """Return a clone of a model with this calibration.

        Raises:
            ValueError: If the model is of another kind, has a calibration or another node's guidance already, or
                ComfyUI is too old.
        """
        if not hasattr(patcher, "add_wrapper_with_key"):
            raise ValueError("this version of ComfyUI has no model wrappers; update ComfyUI")
        self.check(patcher.model.diffusion_model)
        if patcher.get_wrappers(APPLY_MODEL, KEY):
            raise ValueError("the model has a calibration already; apply one only")
        clone = patcher.clone()
        if self.guides:
            if "sampler_cfg_function" in clone.model_options:
                raise ValueError(
                    "another node has replaced the guidance of this model, which the calibration's weights also do; "
                    "remove that node"
                )
            clone.set_model_sampler_cfg_function(self.guide, disable_cfg1_optimization=True)
            clone.add_wrapper_with_key(PREDICT_NOISE, KEY, self.step)
        clone.add_wrapper_with_key(APPLY_MODEL, KEY, self.run)
        return clone

    def check(self, model: nn.Module) -> list[nn.Module]:
        """Return the modules that are scaled.

        Raises:
            ValueError: If the model is not of the calibrated kind or depth.
        """
        kind = type(model).__name__
        if kind != self.model:
            raise ValueError(f"this calibration is for the model class {self.model}, and the model is a {kind}")
        for name, count in self.blocks.items():
            found = getattr(model, name, None)
            depth = len(found) if isinstance(found, nn.ModuleList) else 0
            if depth != count:
                raise ValueError(f"this calibration is for a model with {count} {name}, and the model has {depth}")
        try:
            return [model.get_submodule(path) for path, _ in self.sites]
        except AttributeError as error:
            raise ValueError(f"the model lacks a module that the calibration scales: {error}") from None

    def run(self, executor: Any, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the model with the scales; if several members see the prompt, once for each, and sum by weight."""
        model = executor.class_obj.diffusion_model
        options = _options((*args, *kwargs.values()))
        if COMPILED in options.get("wrappers", {}).get(APPLY_MODEL, {}) or _is_compiled(model):
            raise ValueError(
                "the model is compiled, and would ignore the calibration; remove the node that compiles it"
            )
        kinds = list(options.get("cond_or_uncond", ())) if self.guides else [0]
        if not kinds or not set(kinds) <= {0, 1}:
            raise ValueError("this sampler does not say which rows see the prompt; use KSampler or CFGGuider")
        self._seen |= set(kinds)
        passes = max(map(len, self.groups))
        total: Tensor | float = 0.0
        for number in range(passes):
            members = [self.groups[kind][min(number, len(self.groups[kind]) - 1)] for kind in kinds]
            scales = torch.tensor([self.scales[member] for member in members], device=x.device, dtype=torch.float32)
            with self._hooked(model, scales):
                made: Tensor = executor(x, t, *args, **kwargs)
            if passes > 1:  # the model's output is x - sigma * velocity: velocities are summed
                new = [number < len(self.groups[kind]) for kind in kinds]
                shares = [self.shares[member] * known for member, known in zip(members, new, strict=True)]
                total = total + _times(x - made, torch.tensor(shares))
        if passes > 1:
            made = x - total
        if not self._ran:
            raise ValueError(
                "no module that the calibration scales has run, since another node runs the model in its own way; "
                "remove that node"
            )
        return made

    def step(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Make sure that a step of the sampler was guided by the calibration's weights."""
        self._seen, self._guided = set(), False
        made = executor(*args, **kwargs)
        if not self._guided:
            raise ValueError(
                "the calibration's weights were not used: another node or this guider guides in its own way; use "
                "KSampler or CFGGuider, and no node that changes the guidance"
            )
        return made

    def guide(self, args: Mapping[str, Any]) -> Tensor:
        """Return the members' weighted sum, in place of the sampler's guidance."""
        if not {0, 1} <= self._seen:
            raise ValueError(
                "the calibration has a member that sees no prompt; use KSampler or CFGGuider, with an empty negative "
                "prompt"
            )
        self._guided = True
        with_prompt, without = args["cond"], args["uncond"]
        total: Tensor = sum(self.weights) * without + self.weights[0] * (with_prompt - without)
        return _with_norm_of(total, with_prompt) if self.rescaled else total

    @contextmanager
    def _hooked(self, model: nn.Module, scales: Tensor) -> Iterator[None]:
        """Scale the modules' outputs by a table with one row for each chunk of the batch and one column for a site."""
        modules = self.check(model)
        handles = [
            module.register_forward_hook(self._hook(site, scales[:, column]))
            for column, (module, site) in enumerate(zip(modules, self.sites, strict=True))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, site: tuple[str, int | None], factor: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        path, part = site

        def scale(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
            self._ran = True
            if part is None:
                return _times(output, factor)
            width = args[0].shape[-1]  # a modulation: each of its parts is as wide as its input
            begin, end = part * width, (part + 1) * width
            if end > output.shape[-1]:
                raise ValueError(f"this calibration is for another model: {path} has no part {part}")
            result = output.clone()
            result[..., begin:end] = _times(output[..., begin:end], factor)
            return result

        return scale


def _options(values: Sequence[Any]) -> Mapping[str, Any]:
    """Return the options that the sampler passes to the model: `cond_or_uncond` says what each chunk of rows sees."""
    found = [value for value in values if isinstance(value, dict) and {"cond_or_uncond", "wrappers"} & set(value)]
    return found[0] if found else {}


def _is_compiled(model: nn.Module) -> bool:
    return any("_orig_mod" in module._modules for module in model.modules())


def _times(output: Tensor, factor: Tensor) -> Tensor:
    """Multiply the rows in float32 or wider, and return the model's dtype."""
    rows = len(output)
    if rows % len(factor):
        raise ValueError(f"{rows} rows of a module cannot be divided among {len(factor)} prompts")
    each = factor.to(output.device).repeat_interleave(rows // len(factor))
    return (output * each.view(-1, *[1] * (output.ndim - 1))).to(output.dtype)


def _with_norm_of(total: Tensor, wanted: Tensor) -> Tensor:
    """Rescale every token, which is a patch of 2x2 latent pixels, to the norm of the prediction with the prompt."""
    rescaled = total / _norms(total).clamp_min(torch.finfo(torch.float32).tiny) * _norms(wanted)
    return rescaled.to(total.dtype)


def _norms(latents: Tensor) -> Tensor:
    """Return the norm of the token of each pixel, shape (rows, 1, ..., height, width)."""
    squares = latents.float().square().sum(1, keepdim=True)
    height, width = squares.shape[-2:]
    squares = nn.functional.pad(squares, (0, width % 2, 0, height % 2))
    rows, columns = squares.shape[-2] // 2, squares.shape[-1] // 2
    norms = squares.reshape(*squares.shape[:-2], rows, 2, columns, 2).sum((-1, -3)).sqrt()
    return norms.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., :height, :width]


def files() -> dict[str, Path]:
    """Return the calibrations in this folder and in other exports beside it, by folder and name."""
    found = Path(__file__).absolute().parent.parent.glob(f"*/{FOLDER}/*{SUFFIX}")
    return {f"{path.parent.parent.name}/{path.name.removesuffix(SUFFIX)}": path for path in sorted(found)}


class TrimpotCalibration:
    """The node."""

    CATEGORY = "model_patches"
    DESCRIPTION = "Scales the residual branches of a model by a calibration that trimpot has found."
    FUNCTION = "apply"
    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  # ComfyUI's name
        """Return the inputs: a model, a calibration, and the strength."""
        strength = {"default": 1.0, "min": -1.0, "max": 2.0, "step": 0.05}
        return {"required": {"model": ("MODEL",), "file": (list(files()),), "strength": ("FLOAT", strength)}}

    @classmethod
    def IS_CHANGED(cls, file: str, **_inputs: Any) -> str:  # noqa: N802  # ComfyUI's name
        """Return a digest of the calibration, so that a changed file is applied again."""
        path = files().get(file)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""

    def apply(self, model: Any, file: str, strength: float) -> tuple[Any]:
        """Return a clone of the model with the calibration at a strength.

        Raises:
            ValueError: If there is no such calibration, the strength is out of range, or it does not fit the model.
        """
        path = files().get(file)
        if path is None:
            raise ValueError(f"no calibration {file!r}; there are {', '.join(files()) or 'none'}")
        if not -1 <= strength <= 2:
            raise ValueError(f"strength must be from -1 to 2, not {strength}")
        return (Calibrated(read(path), float(strength)).attach(model),)


NODE_CLASS_MAPPINGS: dict[str, type] = {"TrimpotCalibration": TrimpotCalibration}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {"TrimpotCalibration": "Apply trimpot calibration"}

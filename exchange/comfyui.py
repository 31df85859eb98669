"""A calibration as a folder for `custom_nodes` of ComfyUI, which needs neither trimpot nor diffusers.

One line for each family says where ComfyUI's own model has each site of the model in diffusers:

    Flux: transformer_blocks.*.norm1[1]=double_blocks.*.img_mod.lin/2
    │     │                             │                           └ part of the output that is scaled, counted in
    │     │                             │                             widths of the input; without it, the whole output
    │     │                             └ module of ComfyUI's model; `*` is the number of the block
    │     └ address of the site in diffusers
    └ name of the model class in ComfyUI

A modulation in ComfyUI returns shifts, scales and gates in one tensor: the gate is a part of it. The rows of a module's
output are always its first dimension. `COMFYUI_PATH=... python -m trimpot.proofs.comfyui` proves every line.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..adapters.families import FAMILIES
from ..adapters.sites import SECOND
from ..applying.recipe import recipe_of
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError
from . import comfyui_node as node

LINES: dict[str, str] = {
    "FluxTransformer2DModel": (
        "Flux: transformer_blocks.*.norm1[1]=double_blocks.*.img_mod.lin/2 "
        "transformer_blocks.*.norm1[4]=double_blocks.*.img_mod.lin/5 "
        "transformer_blocks.*.norm1_context[1]=double_blocks.*.txt_mod.lin/2 "
        "transformer_blocks.*.norm1_context[4]=double_blocks.*.txt_mod.lin/5 "
        "single_transformer_blocks.*.norm[1]=single_blocks.*.modulation.lin/2"
    ),
    "SD3Transformer2DModel": (
        "OpenAISignatureMMDITWrapper: transformer_blocks.*.norm1[1]=joint_blocks.*.x_block.adaLN_modulation/2 "
        "transformer_blocks.*.norm1[4]=joint_blocks.*.x_block.adaLN_modulation/5 "
        "transformer_blocks.*.norm1[6]=joint_blocks.*.x_block.adaLN_modulation/8 "
        "transformer_blocks.*.norm1_context[1]=joint_blocks.*.context_block.adaLN_modulation/2 "
        "transformer_blocks.*.norm1_context[4]=joint_blocks.*.context_block.adaLN_modulation/5"
    ),
    "QwenImageTransformer2DModel": (
        "QwenImageTransformer2DModel: transformer_blocks.*.attn[0]=transformer_blocks.*.attn.to_out.0 "
        "transformer_blocks.*.attn[1]=transformer_blocks.*.attn.to_add_out "
        "transformer_blocks.*.img_mlp=transformer_blocks.*.img_mlp "
        "transformer_blocks.*.txt_mlp=transformer_blocks.*.txt_mlp"
    ),
    "WanTransformer3DModel": (
        "WanModel: blocks.*.attn1=blocks.*.self_attn blocks.*.attn2=blocks.*.cross_attn blocks.*.ffn=blocks.*.ffn"
    ),
}
"""The line of each transformer class of diffusers."""


class Place(NamedTuple):
    """Where ComfyUI's model has a site.

    Attributes:
        module: Module path; `*` in a line's pattern is the number of the block.
        part: Part of the output, in widths of the input; None for the whole output.
    """

    module: str
    part: int | None


@cache
def parse_line(transformer: str) -> tuple[str, dict[str, Place]]:
    """Return the model class in ComfyUI of a transformer class, and the place of each address pattern.

    Raises:
        CalibrationError: If the class has no line.
    """
    if transformer not in LINES:
        raise CalibrationError(
            f"a {transformer} cannot be exported for ComfyUI, only {', '.join(LINES)}; export it as native, or as "
            "baked and convert the weights"
        )
    kind, _, body = LINES[transformer].partition(": ")
    places = {}
    for word in body.split():
        address, _, place = word.partition("=")
        module, _, part = place.partition("/")
        places[address] = Place(module, int(part) if part else None)
    return kind, places


def place_of(transformer: str, address: str) -> Place:
    """Return where ComfyUI's model has the site at an address of diffusers' model.

    Raises:
        CalibrationError: If the class has no line, or its line does not name the site.
    """
    _, places = parse_line(transformer)
    number = re.search(r"\.(\d+)\.", address)
    found = places.get(address.replace(number[0], ".*.", 1)) if number else None
    if number is None or found is None:
        raise CalibrationError(
            f"{address} is not among the sites that the {transformer} has in ComfyUI, but of a site line of your own; "
            "export it as native"
        )
    return Place(found.module.replace("*", number[1]), found.part)


def mapped(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration in terms of ComfyUI's modules.

    Raises:
        CalibrationError: If ComfyUI has no such model, or the node cannot express the ensemble.
    """
    recipe = recipe_of(calibration)
    kind, _ = parse_line(recipe.transformer)
    addresses = list(recipe.members[0].scales)
    if any(address.startswith(f"{SECOND}.") for address in addresses):
        raise CalibrationError(
            "this calibration scales two transformers, which ComfyUI loads as two models; export it as native"
        )
    places = [place_of(recipe.transformer, address) for address in addresses]
    blocks: dict[str, int] = {}
    for place in places:
        name, number, *_ = place.module.split(".")
        blocks[name] = max(blocks.get(name, 0), int(number) + 1)
    sees = [member.sees for member in recipe.members]
    guides = "unconditional" in sees
    family = next((each for each in FAMILIES.values() if each.transformer == recipe.transformer), None)
    if guides and family is None:
        raise CalibrationError(f"trimpot has no ensembles of a {recipe.transformer}; export the calibration as native")
    rescaled = bool(family and guides and family.conditioning.rescaled)
    if rescaled and len(sees) > 2:
        raise CalibrationError(
            f"this calibration is an ensemble of {len(sees)} members whose sum is rescaled to the norm of one, which "
            "ComfyUI's sampler does not tell apart from the others; export it as native"
        )
    empty = family.empty if family and recipe.empty is None else recipe.empty
    return {
        "format": node.FORMAT,
        "version": node.VERSION,
        "run": calibration.provenance.run,
        "base": calibration.backbone.get("id"),
        "model": kind,
        "blocks": blocks,
        "negative_prompt": empty if family and guides else None,
        "rescaled": rescaled,
        "sites": [place._asdict() for place in places],
        "members": [
            {
                "sees": member.sees,
                "weight": member.weight,
                "neutral_weight": member.neutral_weight,
                "scales": [member.scales[address] for address in addresses],
            }
            for member in recipe.members
        ],
    }


def write_comfyui(_pipe: Any, calibration: Calibration, folder: Path) -> Path:
    """Write the folder: the node, the calibration and a README.

    Args:
        _pipe: Not needed: what is scaled is in the calibration.
        calibration: The calibration.
        folder: The folder to write.

    Returns:
        The folder, for `custom_nodes`.

    Raises:
        CalibrationError: If ComfyUI has no such model, or the node cannot express the ensemble.
    """
    found = mapped(calibration)
    name = re.sub(r"[^\w.-]+", "-", calibration.provenance.run)
    (folder / node.FOLDER).mkdir(parents=True)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / node.FOLDER / f"{name}{node.SUFFIX}").write_text(text, encoding="utf-8")
    (folder / "__init__.py").write_bytes(Path(node.__file__).read_bytes())
    (folder / "README.md").write_text(_readme(calibration, found), encoding="utf-8")
    return folder


def _readme(calibration: Calibration, found: dict[str, Any]) -> str:
    backbone = calibration.backbone
    given = backbone.get("call")
    call = given if isinstance(given, dict) else backbone
    size = f", {call.get('width')} x {call.get('height')} pixels" if call.get("height") and call.get("width") else ""
    lines = [
        f"# {found['run']}: a calibration for ComfyUI",
        "",
        "Put this folder into `custom_nodes` of ComfyUI, restart it, and put the node *Apply trimpot calibration* ",
        "between the model loader and the sampler. Strength 1 is the calibration, 0 the neutral model.",
        "",
        f"- Model: {found['base']}, loaded by ComfyUI as `{found['model']}`. Others of this class and depth are taken,",
        "  but the gain was measured on this one.",
        f"- Measured at: {calibration.num_steps} steps{size}, with diffusers' sampler. Gain {calibration.told_gain}.",
    ]
    source = backbone.get("source")
    for part in ("transformer", "lora"):
        other = source.get(part) if isinstance(source, dict) else None
        if isinstance(other, dict) and other.get("id"):
            lines.append(f"- Measured with the {part} {other['id']}: load it in ComfyUI too.")
    if found["negative_prompt"] is not None:
        lines += [
            f"- Use KSampler or CFGGuider with the negative prompt {found['negative_prompt']!r}. The weights of the",
            "  calibration replace `cfg`, whose value has no effect.",
        ]
    elif found["model"] == "Flux" and backbone.get("guidance_scale") is not None:
        lines += [f"- Measured with the distilled guidance {backbone['guidance_scale']} (node *FluxGuidance*)."]
    lines += ["", "The node needs neither trimpot nor diffusers. The calibration is data and executes nothing.", ""]
    return "\n".join(line.rstrip() for line in lines)

"""Tiny real instances of diffusers' transformer classes, for checks that concern all of them.

    example = EXAMPLES["FluxTransformer2DModel"]
    model = example.build()
    output = model(**example.arguments(rows=2))

`python -m trimpot.proofs.transformers` runs the contract of `trimpot.testing.transformer` on all of them.
"""

from dataclasses import replace

from .example import Example, shake, transformer_classes
from .images import IMAGES
from .videos import VIDEOS

EXAMPLES = {example.kind: example for example in sorted((*IMAGES, *VIDEOS), key=lambda example: example.kind)}
"""The example of each transformer class."""

_FLUX3 = EXAMPLES["Flux3Transformer2DModel"]
_HUNYUAN = EXAMPLES["HunyuanVideoTransformer3DModel"]
_KANDINSKY = EXAMPLES["Kandinsky6Transformer3DModel"]

VARIANTS = {
    "flux3-reference": replace(_FLUX3, inputs=f"{_FLUX3.inputs} image_cond_hidden_states=~3x4 image_cond_ids=ids:3x4"),
    "hunyuan-first-frame": replace(_HUNYUAN, config=f"{_HUNYUAN.config} image_condition_type=token_replace"),
    "kandinsky6-silent": replace(_KANDINSKY, inputs=f"{_KANDINSKY.inputs} audio_hidden_states=None"),
}
"""Examples of classes in other configurations, in which other blocks or sites are active."""

__all__ = ["EXAMPLES", "VARIANTS", "Example", "shake", "transformer_classes"]

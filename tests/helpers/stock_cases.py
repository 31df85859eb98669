"""How the tiny stock pipelines are called, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SMALL = {"height": 16, "width": 16, "guidance_scale": 3.0}
SHORT = {"max_sequence_length": 16}


@dataclass(frozen=True)
class Case:
    """A pipeline: how it is called, and what is known of it.

    Attributes:
        options: Of the adapter, beside `SMALL`.
        call: Further arguments of the pipeline's call.
        frames: Of each video; 0 where it makes images.
        frozen: Knobs that cannot act.
    """

    options: dict[str, Any]
    call: dict[str, Any]
    frames: int = 0
    frozen: tuple[str, ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """All options of the adapter."""
        return {**SMALL, **self.options, "pipeline_options": self.call}

    @property
    def called(self) -> dict[str, Any]:
        """All arguments of the pipeline's call."""
        return {**SMALL, **self.options, **self.call}


VIDEO = {"num_frames": 5, **SHORT}
BINNED = {"use_resolution_binning": False}
CASES = {
    "wan": Case(VIDEO, {}, frames=5),
    "wan22": Case(VIDEO, {}, frames=5),
    "ltx": Case({**VIDEO, "height": 32, "width": 32}, {"frame_rate": 8}, frames=5),
    "cogvideox": Case({**VIDEO, "num_frames": 8}, {}, frames=8, frozen=("block.01.attn.text", "block.01.mlp.text")),
    "hunyuan_video": Case(VIDEO, {"prompt_template": {"template": "of {}", "crop_start": 3}}, frames=5),
    "latte": Case({}, {"video_length": 3, "clean_caption": False, "mask_feature": False}, frames=3),
    "pixart": Case(SHORT, {**BINNED, "clean_caption": False, "negative_prompt": "dull"}),
    "sana": Case({**SHORT, "height": 32, "width": 32}, {**BINNED, "complex_human_instruction": ["say", "more"]}),
    "lumina2": Case(SHORT, {"system_prompt": "draw"}),
    "zimage": Case(SHORT, {}),
    "flux2": Case(SHORT, {"text_encoder_out_layers": [0, 1, 2]}),
}

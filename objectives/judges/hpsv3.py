"""HPSv3: human preference for a picture given its prompt.

A Qwen2-VL-7B reads picture, instruction and prompt up to a token <|Reward|>. A small network in float32 maps the hidden
state of that token to a mean and a spread. The mean is the score, about 0 to 15:

    score = (W3 relu(W2 (relu(W1 h + b1)) + b2) + b3)[0]    3584 -> 1024 -> 16 -> 2

Two things must be as in training. Pictures are resized to about 448 x 448 (256 merged patches) by PIL's bicubic filter.
Positions number all tokens and patches consecutively: the authors' code never computes Qwen2-VL's positions in rows and
columns, which would change the scores. The checkpoint is only a state dict with older names, so configuration,
tokenizer and image processor come from the base model.

Source: Ma et al., "HPSv3: Towards Wide-Spectrum Human Preference Score", arXiv 2508.03789;
https://github.com/MizzenAI/HPSv3, package hpsv3 1.0.0; the weights were trained with the same instruction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ..hosting import Host, awake
from ..images import PICTURES, rgb
from ..pretrained import Weights
from .chat import Reader, Row
from .hpsv3_prompt import QUESTION, REWARD

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = 256 * 28 * 28
# Older versions of transformers, which the authors used, named the language and vision models differently.
_RENAMED = ((r"^model\.(?!language_model\.|visual\.)", "language_model."), (r"^model\.", ""))


class HPSv3(Objective):
    """Human preference for a picture given its prompt; higher is better, about 0 to 15.

    Args:
        weights: The source of `HPSv3.safetensors`.
        base: The Qwen2-VL that HPSv3 was fine-tuned from.
        host: The host of the model, which the authors run in bfloat16, and of the head, which computes in float32.

    Raises:
        ScoreError: If the weights do not fit the model.
    """

    reads = PICTURES

    def __init__(self, weights: Weights, base: Weights, host: Host) -> None:
        self.weights, self.base, self.host = weights, base, host
        pixels = {"shortest_edge": PIXELS, "longest_edge": PIXELS}
        self.reader = Reader(base, added=[REWARD], size=pixels)
        self.token = self.reader.tokenizer.convert_tokens_to_ids(REWARD)
        state = weights.tensors("HPSv3.safetensors")
        head = _head({name: state.pop(name) for name in list(state) if name.startswith("rm_head.")}, weights)
        self.model, self.head = self._load(state), host.hold(head)

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the mean that the head computes for each output. See `Objective.score`."""
        import torch

        rows = [
            self.reader.read(picture, QUESTION.replace("{}", prompt), prompt)
            for picture, prompt in zip(rgb(outputs), prompts, strict=True)
        ]

        def work(some: Sequence[Row]) -> NDArray[np.float32]:
            with torch.inference_mode():
                inputs = self.reader.inputs(some, self.host.device)
                ids = inputs["input_ids"]
                positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
                hidden = self.model(**inputs, position_ids=positions, use_cache=False).last_hidden_state
                means: NDArray[np.float32] = self.head(hidden[ids == self.token].float())[:, 0].cpu().numpy()
                return means

        return np.array(self.host.map(rows, work, alike=lambda row: len(row.ids)), dtype=np.float64)

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        return {
            **self.weights.describe(),
            "base": dict(self.base.describe()),
            **self.host.describe(),
            **self.reader.describe(),
            "convention": "hpsv3: mean, plain positions",
        }

    def _load(self, state: dict[str, Tensor]) -> Any:
        config = self.base.load("Qwen2VLConfig")
        config.text_config.vocab_size = len(self.reader.tokenizer)
        state.pop("lm_head.weight", None)
        for pattern, new in _RENAMED:
            state = {re.sub(pattern, new, name): value for name, value in state.items()}
        return self.host.assemble(self.weights, "Qwen2VLModel", config, state)


def _head(state: Mapping[str, Tensor], weights: Weights) -> Any:
    """Build the rank head in float32; its dropout does nothing when scoring."""
    from torch import nn

    try:
        hidden, width, last = (state[f"rm_head.{index}.weight"].shape for index in (0, 3, 5))
        head = nn.Sequential(
            nn.Linear(hidden[1], hidden[0]), nn.ReLU(), nn.Identity(), nn.Linear(width[1], width[0]), nn.ReLU(),
            nn.Linear(last[1], last[0]),
        )  # fmt: skip
        head.load_state_dict({name.removeprefix("rm_head."): value.float() for name, value in state.items()})
    except (KeyError, RuntimeError) as error:
        raise ScoreError(f"{weights.model} is no HPSv3: its head rm_head is not the published one") from error
    return head.eval().requires_grad_(False)

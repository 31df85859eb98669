"""HPSv3: how much people would like a picture for its prompt.

A Qwen2-VL-7B reads picture, instruction and prompt up to a token <|Reward|>. The hidden state there goes through a
small network in float32 to a mean and a spread, of which the mean is the score, about 0 to 15:

    score = (W3 relu(W2 (relu(W1 h + b1)) + b2) + b3)[0]    3584 -> 1024 -> 16 -> 2

Three things must be as in training. Pictures are resized to about 448 x 448 (256 merged patches) by PIL's bicubic
filter. Positions count tokens 1, 2, 3, ..., patches too: the authors' code never computes Qwen2-VL's positions in
rows and columns, and with them the scores are others. The checkpoint is a bare state dict in an older naming, so
configuration, tokenizer and image processor come from the base model.

Source: Ma et al., "HPSv3: Towards Wide-Spectrum Human Preference Score", arXiv 2508.03789;
https://github.com/MizzenAI/HPSv3, package hpsv3 1.0.0; the instruction is the one that the weights were trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...engine.errors import ScoreError
from ...engine.seams import Objective, Output
from ..images import rgb
from ..pretrained import Dtype, Weights, pick_device, torch_dtype
from .chat import Reader
from .hpsv3_prompt import QUESTION, REWARD

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = 256 * 28 * 28
# The authors' transformers kept language and vision models side by side; today's has them one level down.
_RENAMED = ((r"^model\.(?!language_model\.|visual\.)", "language_model."), (r"^model\.", ""))


class HPSv3(Objective):
    """Human preference for a picture given its prompt; higher is better, about 0 to 15.

    Args:
        weights: Where `HPSv3.safetensors` lies.
        base: The Qwen2-VL that it was trained from.
        dtype: What the language model computes in; the authors' is bfloat16.
        device: Where; None takes a GPU if there is one.
        batch_size: Pictures at a time, at most.

    Raises:
        ScoreError: If the weights do not fit.
    """

    def __init__(
        self,
        weights: Weights,
        base: Weights,
        *,
        dtype: Dtype = "bfloat16",
        device: str | None = None,
        batch_size: int = 4,
    ) -> None:
        self.weights, self.base, self.dtype, self.batch_size = weights, base, dtype, batch_size
        self.device = pick_device(device)
        pixels = {"shortest_edge": PIXELS, "longest_edge": PIXELS}
        self.reader = Reader(base, added=[REWARD], size=pixels)
        self.token = self.reader.tokenizer.convert_tokens_to_ids(REWARD)
        state = weights.tensors("HPSv3.safetensors")
        self.head = _head({name: state.pop(name) for name in list(state) if name.startswith("rm_head.")}, weights)
        self.model = self._load(state)
        self.head.to(self.device)

    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """The mean that the head gives each output."""
        import torch

        rows = [
            self.reader.read(picture, QUESTION.replace("{}", prompt), prompt)
            for picture, prompt in zip(rgb(outputs), prompts, strict=True)
        ]
        scores = np.empty(len(rows))
        with torch.inference_mode():
            for indices, inputs in self.reader.batches(rows, self.batch_size):
                given = {name: value.to(self.device) for name, value in inputs.items()}
                ids = given["input_ids"]
                positions = torch.arange(ids.shape[1], device=self.device).expand(3, *ids.shape)
                hidden = self.model(**given, position_ids=positions, use_cache=False).last_hidden_state
                scores[indices] = self.head(hidden[ids == self.token].float())[:, 0].cpu().numpy()
        return scores

    def describe(self) -> Mapping[str, Any]:
        """Everything that can change a score."""
        return {
            **self.weights.describe(),
            "base": dict(self.base.describe()),
            "dtype": self.dtype,
            **self.reader.describe(),
            "convention": "hpsv3: mean, plain positions",
        }

    def _load(self, state: dict[str, Tensor]) -> Any:
        config = self.base.load("Qwen2VLConfig")
        config.text_config.vocab_size = len(self.reader.tokenizer)
        state.pop("lm_head.weight", None)
        for pattern, new in _RENAMED:
            state = {re.sub(pattern, new, name): value for name, value in state.items()}
        made = self.weights.assemble("Qwen2VLModel", config, state, dtype=torch_dtype(self.dtype))
        return made.to(self.device)


def _head(state: Mapping[str, Tensor], weights: Weights) -> Any:
    """The rank head, in float32; its dropout is idle when scoring."""
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

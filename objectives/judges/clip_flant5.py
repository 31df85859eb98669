"""VQAScore as first published, with CLIP-FlanT5.

The encoder of Flan-T5 reads two pieces of text and, between them, projected patches of CLIP-L at 336 pixels:

    {system} USER:  </s>  [576 patches]  Does this figure show "{prompt}"? Please answer yes or no. ASSISTANT:  </s>

    score = exp(-mean cross entropy of "Yes", </s>) = sqrt(P("Yes") P(</s> | "Yes"))    in [0, 1]

The patches are the hidden states before CLIP's last layer, without the class token. Pictures are padded to squares with
CLIP's mean colour. Both pieces of text keep their end token.

Source: Lin et al., arXiv 2404.01291; https://github.com/linzhiqiu/t2v_metrics, package t2v-metrics 3.0.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...engine.seams import Objective, Output
from ...ground.errors import ScoreError
from ..hosting import Host, awake
from ..images import PICTURES, rgb
from ..pretrained import Weights, versions
from .vqascore import checked_question

if TYPE_CHECKING:
    from torch import Tensor

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_PROJECTOR = ("mm_projector.0.weight", "mm_projector.0.bias", "mm_projector.2.weight", "mm_projector.2.bias")


class ClipFlanT5(Objective):
    """The probability that a picture shows its prompt, according to CLIP-FlanT5.

    Args:
        weights: Flan-T5 with the projector, in the published layout.
        tokenizer: The source of Flan-T5's tokenizer.
        vision: The CLIP that computes the patches; None uses the one that the checkpoint names.
        question: The question, with {} in place of the prompt.
        host: The host of the networks; the authors run them in bfloat16.
    """

    reads = PICTURES

    def __init__(
        self,
        weights: Weights,
        tokenizer: Weights,
        vision: Weights | None = None,
        *,
        question: str = QUESTION,
        host: Host,
    ) -> None:
        self.weights, self.words, self.host = weights, tokenizer, host
        self.question = checked_question(question)
        config = weights.load("T5Config")
        self.eyes = vision or Weights(getattr(config, "mm_vision_tower", "openai/clip-vit-large-patch14-336"))
        self.tokenizer = tokenizer.load("AutoTokenizer")
        self.images = self.eyes.load("AutoImageProcessor", backend="pil")
        # Loading ties input and output embeddings only if they are equal in the checkpoint; those of Flan-T5 are not.
        self.model = host.load(weights, "T5ForConditionalGeneration", config=config)
        self.vision = host.load(self.eyes, "CLIPVisionModel")
        self.projector = host.hold(_projector(weights).to(host.dtype))

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability of the answer "Yes" for each output. See `Objective.score`."""
        rows = [
            (*self._tokens(prompt), self._squared(picture))
            for picture, prompt in zip(rgb(outputs), prompts, strict=True)
        ]
        return np.array(self.host.map(rows, self._chances, alike=lambda row: (len(row[0]), len(row[1]))))

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        return {
            **self.weights.describe(),
            "tokenizer": dict(self.words.describe()),
            "vision": dict(self.eyes.describe()),
            **self.host.describe(),
            "question": self.question,
            **versions("transformers", "pillow"),
            "convention": "vqascore: clip-flant5, Yes and </s>",
        }

    def _tokens(self, prompt: str) -> tuple[Tensor, Tensor]:
        pieces = (f"{_SYSTEM} USER:", self.question.replace("{}", prompt) + " ASSISTANT:")
        before, after = (self.tokenizer(piece, return_tensors="pt").input_ids[0] for piece in pieces)
        return before, after

    def _squared(self, picture: Image.Image) -> Image.Image:
        side, colour = max(picture.size), tuple(int(255 * mean) for mean in self.images.image_mean)
        square = Image.new("RGB", (side, side), colour)
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return square

    def _chances(self, rows: Sequence[tuple[Tensor, Tensor, Image.Image]]) -> NDArray[np.float64]:
        """Score rows whose texts before the picture have equal lengths, and those after it too."""
        import torch

        device = self.host.device
        before = torch.stack([row[0] for row in rows]).to(device)
        after = torch.stack([row[1] for row in rows]).to(device)
        pixels = self.images([picture for _, _, picture in rows], return_tensors="pt")["pixel_values"]
        wanted = self.tokenizer("Yes", return_tensors="pt").input_ids.repeat(len(rows), 1)
        with torch.inference_mode():
            states = self.vision(pixels.to(device, self.host.dtype), output_hidden_states=True).hidden_states
            embed = self.model.get_input_embeddings()
            joined = torch.cat([embed(before), self.projector(states[-2][:, 1:]), embed(after)], dim=1)
            mask = torch.ones(joined.shape[:2], dtype=torch.long, device=device)
            made = self.model(inputs_embeds=joined, attention_mask=mask, labels=wanted.to(device))
            logits = made.logits.cpu().double()  # in main memory: some devices have no float64
            chosen = logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        return np.asarray(chosen.mean(-1).exp().numpy())


def _projector(weights: Weights) -> Any:
    """Build the projector from CLIP's width to T5's: linear, GELU, linear."""
    from torch import nn

    state = _named(weights, _PROJECTOR)
    first, _, second, _ = (state[name] for name in _PROJECTOR)
    made = nn.Sequential(nn.Linear(*first.shape[::-1]), nn.GELU(), nn.Linear(*second.shape[::-1]))
    made.load_state_dict({name.removeprefix("mm_projector."): value.float() for name, value in state.items()})
    return made.eval().requires_grad_(False)


def _named(weights: Weights, names: Sequence[str]) -> dict[str, Tensor]:
    """Read some tensors of a checkpoint, which may be one file or several."""
    files = _files(weights, names)
    found = {name: value for file in files for name, value in weights.tensors(file).items() if name in names}
    if len(found) < len(names):
        lacking = next(name for name in names if name not in found)
        raise ScoreError(f"{weights.model} is no CLIP-FlanT5: it lacks {lacking}")
    return found


def _files(weights: Weights, names: Sequence[str]) -> list[str]:
    """Return the names of the files that hold the named tensors."""
    for name in (*_INDEXES, *_SINGLES):
        with contextlib.suppress(ScoreError):
            path = weights.file(name)
            if name in _SINGLES:
                return [name]
            part_of = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
            return sorted({part_of[tensor] for tensor in names if tensor in part_of})
    raise ScoreError(f"{weights.model} has no weights under the usual names; give a checkpoint as published")

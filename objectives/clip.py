"""CLIP's text and vision towers, and the rewards that are the cosine of their embeddings: PickScore and CLIPScore.

CLIP: Radford et al. 2021, arXiv 2103.00020. PickScore: Kirstain et al. 2023, arXiv 2305.01569, section 4.
CLIPScore: Hessel et al. 2021, arXiv 2104.08718, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engine.seams import Objective, Output
from .hosting import Host, awake
from .images import PICTURES, Truncation, rgb
from .pixels import normalized, shortest_edge, to_tensor
from .pretrained import Weights, versions

if TYPE_CHECKING:
    from PIL.Image import Image

PROCESSED = "the checkpoint's image processor, on PIL"
BILINEAR = "bilinear tensor resize of the shorter edge, middle square"


class Clip:
    """A CLIPModel that computes the embeddings of texts and pictures.

    Embeddings of prompts are cached in main memory, because every generation uses the same prompts. Prompts are padded
    to the full length of the text tower, so that an embedding does not depend on the rest of its batch. Cosines are
    computed in float32, whatever the precision of the towers.

    Args:
        name: The name of the reward, for the notice about a truncated prompt.
        model: A CLIPModel.
        processor: The weights that the tokenizer and the image processor are loaded from.
        host: The host of the model.
    """

    def __init__(self, name: str, model: Any, processor: Weights, host: Host) -> None:
        self.host = host
        self.device, self.dtype = host.device, host.dtype
        self.model = model
        self.tokenizer = processor.load("AutoTokenizer")
        self.processor = processor.load("AutoImageProcessor", backend="pil")
        self.length = int(self.model.config.text_config.max_position_embeddings)
        self.size = int(self.model.config.vision_config.image_size)
        self.scale = float(self.model.logit_scale.float().exp())
        self._truncation = Truncation(name, self.length)
        self._texts: dict[str, Any] = {}

    def notice(self, prompts: Sequence[str]) -> None:
        """Warn once about a prompt that is longer than the text tower reads."""
        self._truncation.notice(self.tokenizer, prompts)

    def tokens(self, prompts: Sequence[str]) -> Any:
        """Return the token ids of prompts, shape (num_prompts, length)."""
        made = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return made.input_ids.to(self.device)

    def texts(self, prompts: Sequence[str]) -> Any:
        """Return unit embeddings of prompts, float32, shape (num_prompts, width)."""
        import torch

        self.notice(prompts)

        def embedded(some: Sequence[str]) -> Any:
            with torch.inference_mode():
                pooled = self.model.text_model(input_ids=self.tokens(some)).pooler_output
                return unit(self.model.text_projection(pooled)).cpu()

        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        self._texts.update(zip(new, self.host.map(new, embedded), strict=True))
        return torch.stack([self._texts[prompt] for prompt in prompts]).to(self.device)

    def processed(self, pictures: Sequence[Image]) -> Any:
        """Preprocess pictures with the checkpoint's own image processor."""
        return self.processor(images=list(pictures), return_tensors="pt").pixel_values

    def bilinear(self, pictures: Sequence[Image]) -> Any:
        """Preprocess pictures with a bilinear resize of tensors."""
        import torch

        mean, std = self.processor.image_mean, self.processor.image_std
        return torch.stack([normalized(shortest_edge(to_tensor(p), self.size), mean, std) for p in pictures])

    def cosines(self, texts: Any, pictures: Sequence[Image], pixels: Callable[[Sequence[Image]], Any]) -> Any:
        """Return the cosines of texts and pictures, float64, shape (num_pictures,).

        Args:
            texts: Embeddings from `texts`, one for each picture.
            pictures: RGB pictures.
            pixels: Preprocesses a batch of pictures for `pictures`.
        """

        def work(places: Sequence[int]) -> Any:
            seen = self.pictures(pixels([pictures[place] for place in places]))
            return (seen * texts[list(places)]).sum(-1).cpu().numpy().astype(np.float64)

        return np.array(self.host.map(range(len(pictures)), work), dtype=np.float64)

    def pictures(self, pixels: Any) -> Any:
        """Return unit embeddings of pictures, float32, shape (num_pictures, width).

        Args:
            pixels: Normalized pixels, shape (num_pictures, 3, size, size).
        """
        import torch

        with torch.inference_mode():
            pooled = self.model.vision_model(pixel_values=pixels.to(self.device, self.dtype)).pooler_output
            return unit(self.model.visual_projection(pooled))


@dataclass(frozen=True)
class Convention:
    """A published formula that turns the cosine of text and picture into a score.

    Attributes:
        score: Computes the score from the cosine and CLIP's logit scale.
        says: The formula as text, for descriptions.
        model: The checkpoint that the formula was published with.
        prefix: Text that is put before every prompt.
        pixels: The preprocessing, `PROCESSED` or `BILINEAR`.
    """

    score: Callable[[Any, float], Any]
    says: str
    model: str
    prefix: str = ""
    pixels: str = PROCESSED


_PICKSCORE = "yuvalkirstain/PickScore_v1"
_LARGE = "openai/clip-vit-large-patch14"
CONVENTIONS = {
    "pickscore": {
        "logits": Convention(lambda cos, scale: cos * scale, "exp(logit_scale) * cos", _PICKSCORE),
        "per26": Convention(lambda cos, scale: cos * scale / 26, "exp(logit_scale) * cos / 26", _PICKSCORE),
    },
    "clipscore": {
        "hessel": Convention(
            lambda cos, scale: 2.5 * cos.clip(min=0),
            "2.5 * max(cos, 0)",
            "openai/clip-vit-base-patch32",
            prefix="A photo depicts ",
        ),
        "torchmetrics": Convention(lambda cos, scale: 100 * cos.clip(min=0), "100 * max(cos, 0)", _LARGE),
        "flow-grpo": Convention(
            lambda cos, scale: cos * scale / 30, "exp(logit_scale) * cos / 30", _LARGE, pixels=BILINEAR
        ),
    },
}


class ClipReward(Objective):
    """The similarity of a picture and its prompt, from the cosine of their CLIP embeddings.

    Args:
        name: `pickscore` or `clipscore`.
        convention: A key of `CONVENTIONS[name]`.
        model: The weights; None uses the weights of the convention.
        revision: The revision of the weights on the hub.
        processor: The source of the tokenizer and the image processor; None uses the source of the weights.
        host: The host of the towers.
    """

    reads = PICTURES

    def __init__(
        self,
        name: str,
        *,
        convention: str,
        model: str | None,
        revision: str | None,
        processor: str | None,
        host: Host,
    ) -> None:
        self.name = name
        self.convention = convention
        self._how = CONVENTIONS[name][convention]
        self._weights = Weights(model or self._how.model, revision)
        self._processor = Weights(processor) if processor else self._weights
        self.host = host
        self.clip = Clip(name, host.load(self._weights, "CLIPModel"), self._processor, host)

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Score pictures against their prompts. See `Objective.score`."""
        pixels = self.clip.bilinear if self._how.pixels == BILINEAR else self.clip.processed
        texts = self.clip.texts([self._how.prefix + prompt for prompt in prompts])
        angles = self.clip.cosines(texts, rgb(outputs), pixels)
        return np.asarray(self._how.score(angles, self.clip.scale), dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """Describe weights, convention and preprocessing. See `Objective.describe`."""
        return {
            "weights": self._weights.describe(),
            "processor": self._processor.describe(),
            "convention": self.convention,
            "score": self._how.says,
            "prefix": self._how.prefix,
            "pixels": self._how.pixels,
            **self.host.describe(),
            "versions": versions("torch", "transformers", "pillow"),
        }


def unit(embeddings: Any) -> Any:
    """Return embeddings in float32, scaled to length 1 along the last axis."""
    embeddings = embeddings.float()
    return embeddings / embeddings.norm(dim=-1, keepdim=True)

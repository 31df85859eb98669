"""GenEval: whether a picture shows the objects of its prompt in the right number, colour and position.

A detector finds objects of COCO's classes, CLIP names their colours, and `geneval_verdict` compares both with the
prompt::

    confidence = class probability x mean mask probability inside the mask    (the 100 likeliest of query x class)
    kept: confidence > 0.3, for counting > 0.9; at most 16 of a class
    colour = argmax over ten colours of cos(picture of the object on #999, mean of three texts)

The benchmark uses mmdetection's Mask2Former (Swin-S) and open_clip. This module runs the same networks in transformers
with other published weights: report its scores as "geneval-hf".

Source: Ghosh et al., "GenEval", arXiv 2310.11513; https://github.com/djghosh13/geneval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...engine.knobs import digest
from ...engine.seams import Objective, Output
from ...ground.errors import ConfigError, ScoreError
from ..hosting import Host, awake
from ..images import PICTURES, rgb
from ..pretrained import Weights, versions
from .geneval_scenes import COLOURS, NAMES, Scene, parse, read_metadata, scene_of
from .geneval_verdict import Convention, Found, verdict

if TYPE_CHECKING:
    from torch import Tensor

_LIKELIEST, _MOST = 100, 16
_TEXTS = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")


class GenEval(Objective):
    """Whether a picture shows the objects of its prompt, according to an object detector.

    Args:
        detector: A Mask2Former for instances of COCO's classes.
        clip: The CLIP that names the colours.
        score: `official` or `strict`, which are 0 or 1, or `soft`, a graded score for a search.
        threshold: The smallest confidence of an object.
        counting_threshold: The smallest confidence of an object if the prompt asks for a number.
        metadata: A file in the benchmark's form, for prompts outside the benchmark's grammar.
        host: The host of both networks.

    Raises:
        ScoreError: If the detector does not have COCO's eighty classes.
    """

    reads = PICTURES

    def __init__(
        self,
        detector: Weights,
        clip: Weights,
        *,
        score: Convention = "official",
        threshold: float = 0.3,
        counting_threshold: float = 0.9,
        metadata: Path | None = None,
        host: Host,
    ) -> None:
        self.sources, self.convention, self.host = (detector, clip), score, host
        self.threshold, self.counting_threshold = threshold, counting_threshold
        self.read = {} if metadata is None else read_metadata(metadata)
        self.known = self.read
        self.framing = detector.load("AutoImageProcessor", backend="pil")
        self.detector = host.load(detector, "Mask2FormerForUniversalSegmentation")
        if self.detector.config.num_labels != len(NAMES):
            raise ScoreError(
                f"{detector.model} knows {self.detector.config.num_labels} classes, not COCO's {len(NAMES)}; "
                "give a Mask2Former trained on COCO's instances"
            )
        self.words, self.cropping = clip.load("AutoTokenizer"), clip.load("AutoImageProcessor", backend="pil")
        self.clip = host.load(clip, "CLIPModel")

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Use metadata of prompt files in the benchmark's form instead of parsing the prompts.

        Raises:
            ConfigError: If metadata is malformed, or contradicts a prompt's words or the file of the option `metadata`.
        """
        found = {prompt: scene for prompt, about in metadata.items() if (scene := scene_of(prompt, about)) is not None}
        for prompt in found.keys() & self.read.keys():
            if found[prompt] != self.read[prompt]:
                raise ConfigError(
                    f"the prompt file and geneval's option metadata ask for different things in {prompt[:80]!r}; "
                    f"leave one of them out"
                )
        self.known = {**self.read, **found}

    def scene(self, prompt: str) -> Scene:
        """Return the scene that a prompt asks for; the scene's `tag` is the benchmark's category.

        Raises:
            ScoreError: If the prompt has no metadata and is not of the benchmark's grammar.
        """
        return self.known[prompt] if prompt in self.known else parse(prompt)

    def tag(self, prompt: str) -> str:
        """Return the benchmark's category of a prompt."""
        return self.scene(prompt).tag

    @awake
    def score(self, outputs: Sequence[Output], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Compare the objects found in the outputs with their prompts. See `Objective.score`."""
        scenes, pictures = [self.scene(prompt) for prompt in prompts], rgb(outputs)
        scores = np.empty(len(pictures))
        pairs = list(zip(pictures, scenes, strict=True))
        detected = self.host.map(pairs, self._detected, alike=lambda pair: pair[0].size)
        for index, found in enumerate(detected):
            scene, picture = scenes[index], pictures[index]

            def colours(name: str, seen: Sequence[Found], picture: Image.Image = picture) -> list[str]:
                return self.colours(picture, name, seen)

            scores[index] = verdict(scene, found, colours, self.convention)
        return scores

    def colours(self, picture: Image.Image, name: str, seen: Sequence[Found]) -> list[str]:
        """Name the colour of each object of a class."""
        import torch

        blank = Image.new("RGB", picture.size, "#999")
        crops = [Image.composite(picture, blank, Image.fromarray(one.mask)).crop(one.box) for one in seen]
        texts = [text.format(colour=colour, name=name) for colour in COLOURS for text in _TEXTS]
        read = self.words(texts, padding=True, truncation=True, return_tensors="pt")
        pixels = self.cropping(crops, return_tensors="pt")["pixel_values"]
        device, unit = self.host.device, torch.nn.functional.normalize
        with torch.inference_mode():
            words = {name: value.to(device) for name, value in read.items()}
            made = self.clip(**words, pixel_values=pixels.to(device, self.host.dtype))
            embeds = unit(made.text_embeds.float(), dim=-1).view(len(COLOURS), len(_TEXTS), -1)
            named = unit(embeds.mean(1), dim=-1)
            nearest = (unit(made.image_embeds.float(), dim=-1) @ named.T).argmax(-1)
        return [COLOURS[index] for index in nearest.tolist()]

    def describe(self) -> Mapping[str, Any]:
        """Describe everything that can change a score. See `Objective.describe`."""
        detector, clip = self.sources
        return {
            **detector.describe(),
            **self.host.describe(),
            "clip": dict(clip.describe()),
            "threshold": self.threshold,
            "counting_threshold": self.counting_threshold,
            "metadata": digest({prompt: repr(scene) for prompt, scene in self.known.items()}) if self.known else None,
            **versions("transformers", "pillow"),
            "convention": f"geneval-hf {self.convention}",
        }

    def _detected(self, pairs: Sequence[tuple[Image.Image, Scene]]) -> list[dict[str, list[Found]]]:
        """Find the objects in pictures of equal size, by name."""
        import torch

        pixels = self.framing([picture for picture, _ in pairs], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            made = self.detector(pixel_values=pixels.to(self.host.device, self.host.dtype))
            chances = made.class_queries_logits.float().softmax(-1)[..., :-1]
            masks = torch.nn.functional.interpolate(
                made.masks_queries_logits.float(), size=pixels.shape[-2:], mode="bilinear", align_corners=False
            )
        found = []
        for index, (picture, scene) in enumerate(pairs):
            least = self.counting_threshold if scene.tag == "counting" else self.threshold
            found.append(self._objects(chances[index], masks[index], picture.size, least))
        return found

    def _objects(self, chances: Tensor, masks: Tensor, size: tuple[int, int], least: float) -> dict[str, list[Found]]:
        """Return the objects with a confidence above `least`, by name, in order of falling confidence.

        Args:
            chances: Class probabilities, shape (num_queries, num_classes).
            masks: Mask logits, shape (num_queries, height, width).
            size: Width and height of the picture.
            least: The threshold of confidence.
        """
        import torch

        top, where = chances.flatten().topk(min(_LIKELIEST, chances.numel()))
        # A mask only lowers the confidence, so the others can be skipped.
        where = where[top > least]
        found: dict[str, list[tuple[float, Found]]] = defaultdict(list)
        for index in where.tolist():
            query, kind = divmod(index, chances.shape[1])
            logits = torch.nn.functional.interpolate(
                masks[None, None, query], size=size[::-1], mode="bilinear", align_corners=False
            )[0, 0]
            inside = logits > 0
            area = inside.sum()
            sure = float(chances[query, kind] * (logits.sigmoid() * inside).sum() / (area + 1e-6))
            if sure > least:
                found[NAMES[kind]].append((sure, _outlined(inside.cpu().numpy())))
        ordered = {name: sorted(objects, key=lambda entry: -entry[0]) for name, objects in found.items()}
        return {name: [one for _, one in objects[:_MOST]] for name, objects in ordered.items()}


def _outlined(mask: NDArray[np.bool_]) -> Found:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Found((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)), mask)

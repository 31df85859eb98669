# /// script
# requires-python = "==3.10.*"
# dependencies = [
#     "mmcv-full==1.7.1",
#     "mmdet==2.28.2",
#     "numpy==1.23.5",
#     "open-clip-torch==2.20.0",
#     "pillow==9.5.0",
#     "setuptools==66.0.0",
#     "torch==1.13.1",
#     "torchvision==0.14.1",
# ]
#
# [tool.uv]
# find-links = ["https://download.openmmlab.com/mmcv/dist/cu117/torch1.13.0/index.html"]
# ///
"""Serve GenEval (Ghosh et al., NeurIPS 2023) with its own detector: 1 if a picture shows what is asked, else 0.

    uv run servers/geneval_mmdet.py --metadata evaluation_metadata.jsonl --config mask2former.py
        --checkpoint mask2former.pth --probe picture.png dog --port 8200

The benchmark's repository names the three files: the metadata of its prompts, and mmdetection's configuration and
weights of Mask2Former with Swin-S. The server scores these prompts, and prompts whose prompt files hold metadata in the
same form. mmcv-full has wheels for few combinations of CUDA and torch; the wheel above is for CUDA 11.7.

With a wrong configuration this detector finds nothing and reports no error. So the server first shows it a picture of
your choice, --probe PICTURE CLASS, and does not start unless the detector finds that class in the picture.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_server import RefusalError, Scorer, main

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")
#: The benchmark's own numbers: the smallest confidence, the smallest confidence for counting, the largest number of
#: objects of a class, and the smallest distance of two objects' centres for a relation, as a share of their sizes.
CONFIDENCE, COUNTING_CONFIDENCE, MOST_OBJECTS, APART = 0.3, 0.9, 16, 0.1

Box = Sequence[float]  # left, top, right, bottom, in pixels
Found = Mapping[str, Sequence[Any]]  # (box, mask) of every object by class, surest first


def judge(asked: Mapping[str, Any], found: Found, colours_of: Callable[[str, Sequence[Any]], list[str]]) -> bool:
    """Tell whether a picture shows what its prompt asks for.

    Args:
        asked: A line of the benchmark's metadata: `include` and perhaps `exclude`, lists of demands.
        found: The objects that the detector found.
        colours_of: Names the colours of objects of a class.
    """
    met: list[Sequence[Any]] = []
    for demand in asked.get("include", []):
        count, name = demand["count"], demand["class"]
        objects = found.get(name, ())[:count]
        if len(objects) < count:
            return False
        if "color" in demand and colours_of(name, objects).count(demand["color"]) < count:
            return False
        if "position" in demand:
            side, other = demand["position"]
            if not all(side in sides(thing[0], target[0]) for thing in objects for target in met[other]):
                return False
        met.append(objects)
    return all(len(found.get(each["class"], ())) < each["count"] for each in asked.get("exclude", []))


def sides(box: Box, other: Box) -> set[str]:
    """Return the sides of `other` on which a box lies: none if the centres are near, two if it lies diagonally."""
    offset = [(box[axis] + box[axis + 2] - other[axis] - other[axis + 2]) / 2 for axis in (0, 1)]
    near = [APART * (box[axis + 2] - box[axis] + other[axis + 2] - other[axis]) for axis in (0, 1)]
    beyond = [math.copysign(max(abs(o) - n, 0), o) for o, n in zip(offset, near)]  # noqa: B905  # as elsewhere here
    if max(map(abs, beyond)) < 1e-3:
        return set()
    across, down = (each / math.hypot(*offset) for each in beyond)
    named = {"left of": across < -0.5, "right of": across > 0.5, "above": down < -0.5, "below": down > 0.5}
    return {name for name, true in named.items() if true}


class Judge:
    """The object detector and the colour classifier."""

    def __init__(self, options: argparse.Namespace) -> None:
        import mmdet.apis
        import open_clip

        self.read = read_metadata(options.metadata)
        self.asked = self.read
        self.device = options.device
        self.inference = mmdet.apis.inference_detector
        self.detector = mmdet.apis.init_detector(options.config, options.checkpoint, device=options.device)
        self.classes = [COMMON.get(name, name) for name in self.detector.CLASSES]
        self.clip, _, self.prepare = open_clip.create_model_and_transforms(
            "ViT-L-14", pretrained="openai", device=options.device
        )
        self.tokenize = open_clip.get_tokenizer("ViT-L-14")
        self.clip.eval()
        self.heads: dict[str, Any] = {}

    def prepare(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Use metadata of prompt files in the benchmark's form; it must not contradict the benchmark's own."""
        given = {prompt: about for prompt, about in metadata.items() if "include" in about}
        for prompt in given.keys() & self.read.keys():
            if any(given[prompt].get(key) != self.read[prompt].get(key) for key in ("tag", "include", "exclude")):
                raise ValueError(f"they ask for something else than the benchmark does by {prompt!r}")
        self.asked = {**self.read, **given}

    def score(self, outputs: list[Any], prompts: list[str]) -> list[float]:
        """Score each picture: 1 if it shows what its prompt asks for, else 0."""
        return [float(self.right(image.convert("RGB"), prompt)) for image, prompt in zip(outputs, prompts)]  # noqa: B905

    def right(self, image: Any, prompt: str) -> bool:
        """Judge one picture."""
        asked = self.asked.get(prompt)
        if asked is None:
            raise ValueError("it is no prompt of the benchmark's metadata")
        found = self.find(image, COUNTING_CONFIDENCE if asked.get("tag") == "counting" else CONFIDENCE)
        return judge(asked, found, lambda name, objects: self.colours(image, name, objects))

    def find(self, image: Any, confidence: float) -> dict[str, list[Any]]:
        """Return the boxes and masks of the objects found, by class, in order of falling confidence."""
        import numpy

        result = self.inference(self.detector, numpy.ascontiguousarray(numpy.asarray(image)[..., ::-1]))  # blue first
        boxes, masks = result if isinstance(result, tuple) else (result, None)
        found = {}
        for index, name in enumerate(self.classes):
            order = numpy.argsort(boxes[index][:, 4])[::-1]
            order = order[boxes[index][order, 4] > confidence][:MOST_OBJECTS]
            if len(order):
                found[name] = [(boxes[index][i], None if masks is None else masks[index][i]) for i in order]
        return found

    def colours(self, image: Any, name: str, objects: Sequence[Any]) -> list[str]:
        """Return the likeliest colour of every object, cut out on grey."""
        import torch
        from PIL import Image

        crops = []
        for box, mask in objects:
            shown = image
            if mask is not None:
                shown = Image.composite(image, Image.new("RGB", image.size, "#999"), Image.fromarray(mask))
            crops.append(self.prepare(shown.crop(tuple(box[:4]))))
        with torch.no_grad(), torch.autocast("cuda", enabled=self.device.startswith("cuda")):
            seen = self.clip.encode_image(torch.stack(crops).to(self.device))
            likeness = seen / seen.norm(dim=-1, keepdim=True) @ self.head(name)
        return [COLOURS[index] for index in likeness.argmax(1).tolist()]

    def head(self, name: str) -> Any:
        """Return unit embeddings of the colours, means over the templates, shape (width, num_colours)."""
        import torch

        if name not in self.heads:
            columns = []
            with torch.no_grad(), torch.autocast("cuda", enabled=self.device.startswith("cuda")):
                for colour in COLOURS:
                    texts = [template.format(colour=colour, name=name) for template in TEMPLATES]
                    read = self.clip.encode_text(self.tokenize(texts).to(self.device))
                    mean = (read / read.norm(dim=-1, keepdim=True)).mean(0)
                    columns.append(mean / mean.norm())
            self.heads[name] = torch.stack(columns, dim=1)
        return self.heads[name]


#: The benchmark's names of the classes that the detector names differently.
COMMON = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}


def read_metadata(path: str) -> dict[str, Any]:
    """Read the benchmark's metadata, by prompt."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if line.strip()]
        return {line["prompt"]: line for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusalError(500, f"cannot read the metadata {path}: {error}") from None


def load(options: argparse.Namespace) -> Scorer:
    """Load the detector and the colour classifier, and try the detector on the probe."""
    from PIL import Image

    made = Judge(options)
    picture, name = options.probe
    with Image.open(picture) as image:
        found = made.find(image.convert("RGB"), CONFIDENCE)
    if name not in found:
        saw = ", ".join(sorted(found)) or "nothing"
        raise RefusalError(
            500, f"the detector saw {saw} in {picture}, but no {name}: configuration or weights are wrong"
        )
    return Scorer(
        "geneval",
        made.score,
        {
            "detector": options.checkpoint.replace("\\", "/").rpartition("/")[2],
            "colours": "open_clip ViT-L-14 openai",
            "thresholds": [CONFIDENCE, COUNTING_CONFIDENCE, MOST_OBJECTS, APART],
            "range": [0, 1],
        },
        made.prepare,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="geneval_mmdet.py", description=__doc__.splitlines()[0])
    parser.add_argument("--metadata", required=True, help="the benchmark's evaluation_metadata.jsonl")
    parser.add_argument("--config", required=True, help="mmdetection's configuration of the detector")
    parser.add_argument("--checkpoint", required=True, help="the detector's weights")
    parser.add_argument("--probe", required=True, nargs=2, metavar=("PICTURE", "CLASS"), help="what it must see")
    parser.add_argument("--device", default="cuda", help="the device of the models")
    main(load, parser)

"""Rewards, and combinations of rewards."""

from __future__ import annotations

from typing import Literal

from ..engine.bucket import PromptSet
from ..engine.hooks import Factory, Register, Source, hookimpl
from ..engine.seams import Objective
from .hosting import Host, hosted
from .image_statistics import STATISTICS

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def make_shapes(*, factor: Literal["faithful", "strict", "vivid", "crisp", "clean"] | None = None) -> Objective:
    """The share of a prompt's demands that a picture of the shapes world meets, or one factor of it, from 0 to 1."""
    from .shapes.reward import ShapesReward

    return ShapesReward(factor)


def make_shapes_diversity() -> Objective:
    """The mean distance of a picture to the others of its prompt, in what prompts of the shapes world leave open."""
    from .shapes.diversity import ShapesDiversity

    return ShapesDiversity()


def make_shapes_prompts() -> PromptSet:
    """The prompts of the shapes world: disjoint sets for training, validation and test."""
    from .shapes.scenes import prompts

    return PromptSet(
        tuple(prompts("train")),
        tuple(prompts("validation")),
        tuple(prompts("test")),
        source="prompts 'shapes'",
    )


@hosted()
def make_pickscore(
    host: Host,
    *,
    convention: Literal["logits", "per26"] = "logits",
    model: Source | None = None,
    revision: str | None = None,
    processor: Source = CLIP_H,
) -> Objective:
    """PickScore, a model of human preference for a picture given its prompt: about 17 to 24 as logits."""
    from .clip import ClipReward

    return ClipReward(
        "pickscore",
        convention=convention,
        model=model,
        revision=revision,
        processor=processor,
        host=host,
    )


@hosted()
def make_clipscore(
    host: Host,
    *,
    convention: Literal["hessel", "torchmetrics", "flow-grpo"] = "hessel",
    model: Source | None = None,
    revision: str | None = None,
) -> Objective:
    """CLIPScore, the similarity of a picture and its prompt in CLIP's embeddings, in one of three conventions."""
    from .clip import ClipReward

    return ClipReward(
        "clipscore",
        convention=convention,
        model=model,
        revision=revision,
        processor=None,
        host=host,
    )


@hosted()
def make_hpsv2(
    host: Host,
    *,
    model: Source = "xswu/HPSv2",
    revision: str | None = None,
    file: str = "HPS_v2.1_compressed.pt",
    clip: Source = CLIP_H,
) -> Objective:
    """HPS v2.1, a model of human preference for a picture given its prompt: a cosine of about 0.2 to 0.35."""
    from .hpsv2 import Hpsv2

    return Hpsv2(model=model, revision=revision, file=file, clip=clip, host=host)


@hosted()
def make_imagereward(
    host: Host,
    *,
    model: Source = "THUDM/ImageReward",
    revision: str | None = None,
    file: str = "ImageReward.pt",
    tokenizer: Source = "google-bert/bert-base-uncased",
) -> Objective:
    """ImageReward, a model of human ratings of a picture given its prompt: about -2 to 2."""
    from .imagereward import ImageReward

    return ImageReward(
        model=model,
        revision=revision,
        file=file,
        tokenizer=tokenizer,
        host=host,
    )


@hosted()
def make_aesthetic(
    host: Host,
    *,
    model: Source = "openai/clip-vit-large-patch14",
    revision: str | None = None,
    head: Source | None = None,
) -> Objective:
    """The LAION aesthetic score of a picture, about 1 to 10; it ignores the prompt."""
    from .aesthetic import Aesthetic

    return Aesthetic(model=model, revision=revision, head=head, host=host)


@hosted()
def make_mps(
    host: Host,
    *,
    model: Source,
    revision: str | None = None,
    file: str = "mps.safetensors",
    clip: Source = CLIP_H,
    threshold: float = 0.01,
) -> Objective:
    """MPS, a model of overall human preference for a picture: about 8 to 13; its weights must be converted by hand."""
    from .mps import Mps

    return Mps(
        model=model,
        revision=revision,
        file=file,
        clip=clip,
        threshold=threshold,
        host=host,
    )


@hosted(batch_size=32)
def make_dino_diversity(
    host: Host,
    *,
    model: Source = "facebook/dino-vits16",
    revision: str | None = None,
) -> Objective:
    """The mean DINO distance (1 - cosine of features) of a picture to the other pictures of its prompt."""
    from .diversity import DinoDiversity

    return DinoDiversity(model=model, revision=revision, host=host)


@hosted(batch_size=32, without=("quantization",))
def make_lpips_diversity(
    host: Host,
    *,
    model: Source,
    revision: str | None = None,
    backbone: str = "alexnet-owt-7be5be79.pth",
    heads: str = "alex.pth",
) -> Objective:
    """The mean LPIPS distance of a picture to the other pictures of its prompt."""
    from .diversity import LpipsDiversity

    return LpipsDiversity(model=model, revision=revision, backbone=backbone, heads=heads, host=host)


def make_jpeg_size(*, direction: Literal["incompressible", "compressible"] = "incompressible") -> Objective:
    """The size of a picture as a JPEG file in kB, or with `compressible` its negative divided by 500."""
    from .jpeg import JpegSize

    return JpegSize(direction=direction)


def _statistic(name: str) -> Factory:
    """Make the factory of a statistic, with the statistic's docstring."""

    def make() -> Objective:
        from .image_statistics import Statistic

        return Statistic(name)

    make.__doc__ = STATISTICS[name].__doc__
    return make


def make_value() -> Objective:
    """The output itself, for adapters whose outputs are numbers."""
    from .value import Value

    return Value()


REWARDS: dict[str, Factory] = {
    "aesthetic": make_aesthetic,
    "clipscore": make_clipscore,
    "dino-diversity": make_dino_diversity,
    "hpsv2": make_hpsv2,
    "imagereward": make_imagereward,
    "jpeg-size": make_jpeg_size,
    "lpips": make_lpips_diversity,
    "mps": make_mps,
    "pickscore": make_pickscore,
    "shapes": make_shapes,
    "shapes-diversity": make_shapes_diversity,
    "value": make_value,
}


@hookimpl
def register_objectives(register: Register) -> None:
    """Register the built-in rewards."""
    for name, factory in REWARDS.items():
        register(name, factory)
    for name in STATISTICS:
        register(name, _statistic(name))


@hookimpl
def register_prompts(register: Register) -> None:
    """Register the built-in prompts."""
    register("shapes", make_shapes_prompts)

"""Rewards, and ways of combining them."""

from __future__ import annotations

from typing import Literal

from ..engine.bucket import PromptSet
from ..engine.hooks import Factory, Register, Source, hookimpl
from ..engine.seams import Objective
from .hosting import Host, hosted
from .image_statistics import STATISTICS

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def make_shapes() -> Objective:
    """How well a picture of the shapes world shows its prompt, from 0 to 1."""
    from .shapes.reward import ShapesReward

    return ShapesReward()


def make_shapes_prompts() -> PromptSet:
    """The disjoint prompts of the shapes world."""
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
    """How much people would prefer a picture for its prompt: PickScore, about 17 to 24 as logits."""
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
    """How well a picture fits its prompt: the angle of CLIP's embeddings, in one of three conventions."""
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
    """How much people would prefer a picture for its prompt: HPS v2.1, a cosine of about 0.2 to 0.35."""
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
    """How well a picture is made for its prompt, in people's eyes: ImageReward, about -2 to 2."""
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
    """How pleasing a picture is, whatever the prompt: the LAION aesthetic score, about 1 to 10."""
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
    """How much people would prefer a picture overall: MPS, about 8 to 13; its weights are converted by hand."""
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
    """How different a prompt's pictures are: 1 - cosine of DINO features, to the prompt's other pictures."""
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
    """How different a prompt's pictures are: LPIPS to the prompt's other pictures."""
    from .diversity import LpipsDiversity

    return LpipsDiversity(model=model, revision=revision, backbone=backbone, heads=heads, host=host)


def make_jpeg_size(*, direction: Literal["incompressible", "compressible"] = "incompressible") -> Objective:
    """How much there is in a picture: its size as a JPEG file, in kB, or how little."""
    from .jpeg import JpegSize

    return JpegSize(direction=direction)


def _statistic(name: str) -> Factory:
    """The factory of a statistic, which says of itself what the statistic says."""

    def make() -> Objective:
        from .image_statistics import Statistic

        return Statistic(name)

    make.__doc__ = STATISTICS[name].__doc__
    return make


def make_value() -> Objective:
    """The output itself, where it is a number already."""
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
    "value": make_value,
}


@hookimpl
def register_objectives(register: Register) -> None:
    """Name the built-in rewards."""
    for name, factory in REWARDS.items():
        register(name, factory)
    for name in STATISTICS:
        register(name, _statistic(name))


@hookimpl
def register_prompts(register: Register) -> None:
    """Name the built-in prompts."""
    register("shapes", make_shapes_prompts)

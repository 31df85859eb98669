"""Rewards judged by larger models: vision-language chat models, object detectors, text recognition."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from ...engine.bucket import PromptSet
from ...engine.hooks import Register, Source, hookimpl
from ...engine.seams import Objective
from ...ground.errors import ConfigError
from ..hosting import Host, hosted
from ..pretrained import Weights


@hosted(dtype="bfloat16", batch_size=4)
def make_hpsv3(
    host: Host,
    *,
    model: Source = "MizzenAI/HPSv3",
    revision: str | None = None,
    base: Source = "Qwen/Qwen2-VL-7B-Instruct",
    base_revision: str | None = None,
) -> Objective:
    """HPSv3, a model of human preference for a picture given its prompt: about 0 to 15 (7B parameters, 17 GB)."""
    from .hpsv3 import HPSv3

    return HPSv3(Weights(model, revision), Weights(base, base_revision), host)


@hosted(dtype="bfloat16", batch_size=4)
def make_qalign(
    host: Host,
    *,
    model: Source = "q-future/Q-ReAlign-Mini-0.8B",
    revision: str | None = None,
    aspect: Literal["quality", "aesthetics"] = "quality",
    question: str | None = None,
) -> Objective:
    """Q-ReAlign, the successor of Q-Align: the quality or aesthetics of a picture, from 0 to 1 (0.8B, 4B or 9B)."""
    from .chat import Chat
    from .qalign import QAlign

    chat = Chat(Weights(model, revision), host)
    return QAlign(chat, aspect=aspect, question=question)


@hosted(dtype="bfloat16", batch_size=4)
def make_vqascore(
    host: Host,
    *,
    architecture: Literal["chat", "clip-flant5"] = "chat",
    model: Source | None = None,
    revision: str | None = None,
    question: str | None = None,
    tokenizer: Source = "google/flan-t5-xxl",
    tokenizer_revision: str | None = None,
    vision: Source | None = None,
    vision_revision: str | None = None,
) -> Objective:
    """VQAScore, the probability that a picture shows its prompt, according to a Qwen chat model or CLIP-FlanT5."""
    if architecture == "chat":
        from .chat import Chat
        from .vqascore import QUESTION, VQAScore

        weights = Weights(model or "Qwen/Qwen2.5-VL-7B-Instruct", revision)
        return VQAScore(Chat(weights, host), question=question or QUESTION)
    from . import clip_flant5

    return clip_flant5.ClipFlanT5(
        Weights(model or "zhiqiulin/clip-flant5-xxl", revision),
        Weights(tokenizer, tokenizer_revision),
        None if vision is None else Weights(vision, vision_revision),
        question=question or clip_flant5.QUESTION,
        host=host,
    )


@hosted(dtype="bfloat16", batch_size=4)
def make_unifiedreward(
    host: Host,
    *,
    model: Source = "CodeGoat24/UnifiedReward-qwen-7b",
    revision: str | None = None,
    convention: Literal["v1", "flow-grpo", "v2"] = "v1",
    axis: Literal["alignment", "coherence", "style", "mean"] = "mean",
    size: PositiveInt | None = None,
    max_new_tokens: PositiveInt = 512,
    unparsed: float | None = None,
) -> Objective:
    """UnifiedReward, a chat model that writes a score from 1 to 5 for a picture and its prompt."""
    from .chat import Chat
    from .unifiedreward import UnifiedReward

    chat = Chat(Weights(model, revision), host)
    return UnifiedReward(
        chat, convention=convention, axis=axis, size=size, max_new_tokens=max_new_tokens, unparsed=unparsed
    )


@hosted(batch_size=4)
def make_geneval(
    host: Host,
    *,
    detector: Source = "facebook/mask2former-swin-small-coco-instance",
    detector_revision: str | None = None,
    clip: Source = "openai/clip-vit-large-patch14",
    clip_revision: str | None = None,
    score: Literal["official", "strict", "soft"] = "official",
    threshold: float = 0.3,
    counting_threshold: float = 0.9,
    metadata: Path | None = None,
) -> Objective:
    """GenEval (as "geneval-hf"): whether a picture shows the objects asked for, in number, colour and position."""
    from .geneval import GenEval

    for name, value in (("threshold", threshold), ("counting_threshold", counting_threshold)):
        if not 0 <= value < 1:
            raise ConfigError(f"option {name} is a confidence from 0 to 1, not {value}")
    return GenEval(
        Weights(detector, detector_revision),
        Weights(clip, clip_revision),
        score=score,
        threshold=threshold,
        counting_threshold=counting_threshold,
        metadata=metadata,
        host=host,
    )


def make_ocr(*, target: str | None = None, detect: bool = True, upscale: PositiveInt = 1) -> Objective:
    """The legibility in the picture of the text that the prompt puts in quotes, from 0 to 1."""
    from .ocr import OCR

    return OCR(target=target, detect=detect, upscale=upscale)


def make_geneval_prompts(
    *,
    tags: list[Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]] | None = None,
    train: PositiveInt = 60,
    validation: PositiveInt = 20,
    seed: int = 0,
    source: Source | None = None,
    revision: str | None = None,
) -> PromptSet:
    """GenEval's 553 prompts for the test, and others of its grammar for the search (arXiv 2310.11513; licence: MIT)."""
    from .geneval_prompts import prompt_set, read_prompt_set

    if source is not None:
        return read_prompt_set(source, revision, tags, train, validation, seed)
    if revision is not None:
        raise ConfigError("prompts 'geneval': revision is the revision of a source; give the source too")
    return prompt_set(tags, train, validation, seed)


@hookimpl
def register_objectives(register: Register) -> None:
    """Register the rewards judged by larger models."""
    register("hpsv3", make_hpsv3)
    register("qalign", make_qalign)
    register("vqascore", make_vqascore)
    register("unifiedreward", make_unifiedreward)
    register("geneval", make_geneval)
    register("ocr", make_ocr)


@hookimpl
def register_prompts(register: Register) -> None:
    """Register GenEval's prompts."""
    register("geneval", make_geneval_prompts)

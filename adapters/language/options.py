"""The options of the adapter for language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...engine.hooks import Source
from ..layout import LARGEST
from ..loading import Dtype, Quantization
from .formats import CHAT, PROMPT, mistaken_format

Positive = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Share = Annotated[float, Field(gt=0, le=1)]
MOST_TOKENS = 100_000
#: The options that only one mode reads.
OF_MODE: Mapping[str, tuple[str, ...]] = {
    "likelihood": ("prose", "divergence", "max_answer_tokens", "bias_grid"),
    "generate": ("max_new_tokens", "temperature", "top_k", "top_p", "stop"),
}
MOST_SHOTS = 100
LONGEST_FORMAT = 10_000  # characters
LEAST_BIAS, MOST_BIAS = -1.0, 2.0


class LanguageOptions(BaseModel):
    """The options of the adapter `transformers`.

    Attributes:
        model: A folder or a hub id; a GGUF file, or a folder with a single one.
        mode: `likelihood` computes how likely each prompt's answer and options are, in one pass; `generate` lets the
            model write.
        granularity: How sites are tied into knobs: one for each `block`, or one for each branch of it (`layer`).
        chat: Whether a prompt becomes a user's message in the model's own chat template.
        system: The message before it; only with `chat`.
        formats: What stands around a prompt: texts with `{prompt}`, which may end in `{answer}`, or `chat` for the chat
            template. Each is a neutral setting; the first is the default.
        shots: How many training records are shown, with their answers, before a prompt. Each number is a neutral
            setting; the first is the default.
        bias_grid: Shares of each option's log-likelihood without the prompt that are subtracted from its
            log-likelihood: neutral settings of the knob `bias` beside 0. Without any there is no such knob.
        content_free: What stands in the prompt's place for the log-likelihood without it; None for `N/A`.
        prose: Whether a prompt without an answer is itself the text whose likelihood is computed.
        divergence: Whether to compute how far a candidate's predictions of the answer (or of the prose) are from the
            neutral model's. The neutral model's are computed once a prompt.
        max_new_tokens: The most tokens to generate.
        temperature: 0 takes the most likely token each time; above, tokens are drawn with the output's own seed.
        top_k: Draw from this many tokens only.
        top_p: Draw from the most likely tokens that together have this probability.
        stop: Texts at which a generated text ends, before them.
        max_prompt_tokens: The most tokens of a prompt; None for what the model's configuration allows.
        max_answer_tokens: The most tokens of an answer or option.
        batch_size: The most rows in one pass; halved automatically if memory runs out.
        low: Lower bound of every scale.
        high: Upper bound of every scale.
        blocks: Site lines of further block classes, as `trimpot.adapters.sites` explains them.
        revision: Branch, tag or commit on the hub.
        dtype: The dtype of the weights in memory; for quantized weights, the dtype of the arithmetic.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `xpu`; None takes a CUDA GPU if there is one.
        quantization: The method that quantizes the model's linear layers during loading.
        lora: A LoRA to merge into the model: a .safetensors file, a folder or a hub id.
        lora_revision: The LoRA's branch, tag or commit on the hub.
        outline: Whether to build the model from its configuration alone, without weights: such an adapter counts and
            lists knobs but makes no answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Source
    mode: Literal["likelihood", "generate"] = "likelihood"
    granularity: Literal["block", "layer"] = "layer"
    chat: bool = False
    system: str | None = None
    formats: Annotated[tuple[Annotated[str, Field(max_length=LONGEST_FORMAT)], ...], Field(min_length=1)] = (PROMPT,)
    shots: Annotated[tuple[Annotated[int, Field(ge=0, le=MOST_SHOTS)], ...], Field(min_length=1)] = (0,)
    bias_grid: tuple[Annotated[float, Field(ge=LEAST_BIAS, le=MOST_BIAS)], ...] = ()
    content_free: Annotated[str, Field(min_length=1)] | None = None
    prose: bool = False
    divergence: bool = False
    max_new_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 64
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0
    top_k: Positive | None = None
    top_p: Share | None = None
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    max_prompt_tokens: Positive | None = None
    max_answer_tokens: Positive = 512
    batch_size: Positive = 64
    low: Scale = -1.0
    high: Scale = 2.0
    blocks: dict[str, str] = Field(default_factory=dict)
    revision: str | None = None
    dtype: Dtype = "float32"
    device: str | None = None
    quantization: Quantization | None = None
    lora: Source | None = None
    lora_revision: str | None = None
    outline: bool = False


def mistake(options: LanguageOptions) -> str | None:
    """Return a sentence that names options that exclude each other, or None."""
    if problem := _mistaken_asking(options):
        return problem
    if options.system is not None and not (options.chat or CHAT in options.formats):
        return "system is a message of a chat; set chat: true, or leave system out"
    for mode, names in OF_MODE.items():
        for name in names if mode != options.mode else ():
            if getattr(options, name) != type(options).model_fields[name].default:
                return f"{name} is of mode: {mode}, and the mode is {options.mode}; leave {name} out"
    if options.lora_revision is not None and options.lora is None:
        return "lora_revision is of a LoRA, and there is none; give lora, or leave lora_revision out"
    if options.temperature == 0:
        for name in ("top_k", "top_p"):
            if getattr(options, name) is not None:
                return (
                    f"{name} is for drawing tokens, and temperature: 0 draws none; set a temperature, or leave it out"
                )
    if options.low >= options.high:
        return f"low is {options.low:g} and high is {options.high:g}; let low be less"
    if not options.low <= 1 <= options.high:
        return f"low is {options.low:g} and high is {options.high:g}, and the neutral scale 1 must lie between them"
    return None


def _mistaken_asking(options: LanguageOptions) -> str | None:
    """Return a sentence on what is wrong with how prompts are asked, or None."""
    for name in ("formats", "shots", "bias_grid"):
        given: tuple[object, ...] = getattr(options, name)
        if len(set(given)) < len(given):
            twice = next(each for each in given if given.count(each) > 1)
            return f"{name} holds {twice!r} twice; leave one out"
    if options.content_free is not None and not options.bias_grid:
        return "content_free is for a bias of options; set bias_grid, or leave content_free out"
    return next(filter(None, (mistaken_format(each, chat=options.chat) for each in options.formats)), None)

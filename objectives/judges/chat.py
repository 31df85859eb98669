"""Ask vision-language models of the Qwen family about pictures.

The models' own processor class needs torchvision for videos. So this module does its three steps for pictures: apply
the chat template, cut the picture into patches, and insert a placeholder token for each merged patch.

A batch holds only rows of equal length. Nothing is padded, so a score does not depend on the lengths of the other
prompts in the batch, and neither masks nor positions have to account for padding.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...engine.knobs import digest
from ...ground.errors import ScoreError
from ..hosting import Host
from ..pretrained import Weights, transformers, versions

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

PLACEHOLDER = "<|image_pad|>"


@dataclass(frozen=True)
class Row:
    """One question about one picture.

    Attributes:
        ids: Token ids, shape (length,), with one placeholder for each merged patch.
        patches: The patches of the picture, shape (num_patches, values).
        grid: The numbers of frames, rows and columns of patches, shape (1, 3).
    """

    ids: Tensor
    patches: Tensor
    grid: Tensor


class Reader:
    """The preprocessing of a chat model: it turns a picture and a question into tokens and patches.

    Args:
        weights: The source of the tokenizer, the chat template and the image processor.
        added: Additional special tokens that the model was trained with.
        **processing: Changes to the configuration of the image processor, such as `size`.

    Raises:
        ScoreError: If the tokenizer has no placeholder for pictures.
    """

    def __init__(self, weights: Weights, *, added: Sequence[str] = (), **processing: Any) -> None:
        self.weights = weights
        self.tokenizer = weights.load("AutoTokenizer")
        self.images = weights.load("AutoImageProcessor", backend="pil", **processing)
        if PLACEHOLDER not in self.tokenizer.get_vocab():
            raise ScoreError(
                f"{weights.model} has no token {PLACEHOLDER}; give a vision-language model of the Qwen family"
            )
        self.tokenizer.add_tokens(list(added), special_tokens=True)
        self.template = self._template()
        self._commands = sorted({*self.tokenizer.all_special_tokens, *added, PLACEHOLDER})

    def read(self, picture: Image, question: str, prompt: str = "", answer: str = "", **template: Any) -> Row:
        """Build the row of one question about one picture.

        Args:
            picture: An RGB picture.
            question: The user's text after the picture.
            prompt: The part of the question that comes from the user's prompt; it must not hold special tokens.
            answer: The beginning of the model's answer.
            **template: Variables of the chat template, such as `enable_thinking`; a template ignores unknown ones.

        Raises:
            ScoreError: If the prompt holds a special token, or the chat template shows no picture.
        """
        for command in self._commands:
            if command in prompt:
                raise ScoreError(
                    f"the prompt {prompt[:60]!r} holds {command!r}, which {self.weights.model} takes for a command; "
                    "reword it"
                )
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        asked = self.tokenizer.apply_chat_template(
            said, chat_template=self.template, tokenize=False, add_generation_prompt=True, **template
        )
        if asked.count(PLACEHOLDER) != 1:
            raise ScoreError(
                f"the chat template of {self.weights.model} shows no picture; give an instruction-tuned model"
            )
        seen = self.images(images=picture, return_tensors="pt")
        count = int(seen["image_grid_thw"].prod()) // self.images.merge_size**2
        text = asked.replace(PLACEHOLDER, PLACEHOLDER * count) + answer
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
        return Row(ids, seen["pixel_values"], seen["image_grid_thw"])

    def inputs(self, rows: Sequence[Row], device: str) -> dict[str, Tensor]:
        """Return the keyword arguments for a model's call on rows of equal length."""
        import torch

        place = self.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        ids = torch.stack([row.ids for row in rows])
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            # Without these types transformers falls back to plain positions, for some models silently.
            "mm_token_type_ids": (ids == place).int(),
            "pixel_values": torch.cat([row.patches for row in rows]),
            "image_grid_thw": torch.cat([row.grid for row in rows]),
        }
        return {name: value.to(device) for name, value in inputs.items()}

    def describe(self) -> dict[str, Any]:
        """Describe the chat template and the image processor."""
        return {
            "template": digest(self.template),
            "image_processor": f"{type(self.images).__name__} {json.dumps(dict(self.images.size), sort_keys=True)}",
            **versions("transformers", "pillow"),
        }

    def _template(self) -> str:
        found = self.tokenizer.chat_template
        if not isinstance(found, str) or PLACEHOLDER not in found:
            # Older checkpoints store the template with pictures in a file of the processor.
            with contextlib.suppress(ScoreError):
                file = self.weights.file("chat_template.json")
                found = json.loads(file.read_text(encoding="utf-8"))["chat_template"]
        if not isinstance(found, str):
            raise ScoreError(f"{self.weights.model} has no chat template; give an instruction-tuned model")
        return found


class Chat:
    """A vision-language model with its preprocessing.

    Args:
        weights: The checkpoint.
        host: The host of the model; it must be awake during calls.
    """

    def __init__(self, weights: Weights, host: Host) -> None:
        self.weights, self.host = weights, host
        self.reader = Reader(weights)
        self.model = host.load(weights, "AutoModelForImageTextToText")

    def next_token(self, rows: Sequence[Row]) -> Tensor:
        """Return the logits of the token after each row, in float32, shape (len(rows), vocabulary)."""
        import torch

        def work(some: Sequence[Row]) -> Tensor:
            with torch.inference_mode():
                inputs = self.reader.inputs(some, self.host.device)
                logits: Tensor = self.model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]
                return logits.float().cpu()

        return torch.stack(self.host.map(rows, work, alike=lambda row: len(row.ids)))

    def answers(self, rows: Sequence[Row], max_new_tokens: int) -> list[str]:
        """Generate an answer to each row greedily, without a repetition penalty."""
        import torch

        # The checkpoint's own generation settings may sample, so they are replaced.
        own, tokenizer = self.model.generation_config, self.reader.tokenizer
        self.model.generation_config = transformers().GenerationConfig(
            do_sample=False,
            eos_token_id=own.eos_token_id or tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
        )

        def work(some: Sequence[Row]) -> list[str]:
            with torch.inference_mode():
                inputs = self.reader.inputs(some, self.host.device)
                made = self.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
                answers: list[str] = tokenizer.batch_decode(made, skip_special_tokens=True)
                return answers

        return self.host.map(rows, work, alike=lambda row: len(row.ids))

    def describe(self) -> dict[str, Any]:
        """Describe weights, precision, chat template and image processor."""
        return {**self.weights.describe(), **self.host.describe(), **self.reader.describe()}

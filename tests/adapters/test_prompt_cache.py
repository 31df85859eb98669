"""What a pipeline encodes is kept and joined, or left alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trimpot.adapters import make_diffusers
from trimpot.adapters.prompt_cache import PromptCache
from trimpot.adapters.stock import StockAdapter
from trimpot.ground.errors import ModelError

TWO = ["a", "b"]


class Encoding:
    """A pipeline that encodes prompts by a rule and counts how many it was given.

    It is no pipeline to generate with; it shows shapes that few pipelines have.
    """

    def __init__(self, rule: Any) -> None:
        self.rule, self.num_encoded = rule, 0
        self.components: dict[str, Any] = {}
        self._execution_device = torch.device("cpu")

    def encode_prompt(self, prompt: list[str] | str, scale: float = 1.0, prompt_embeds: Any = None) -> Any:
        prompts = [prompt] if isinstance(prompt, str) else prompt
        self.num_encoded += len(prompts)
        return self.rule(torch.tensor([[float(ord(text[0])), len(text)] for text in prompts]) * scale)


def checked(rule: Any) -> tuple[Encoding, PromptCache]:
    pipe = Encoding(rule)
    cache = PromptCache(pipe)
    with cache.remembering(checking=True):
        pipe.encode_prompt(["a", "a"])
    pipe.num_encoded = 0
    return pipe, cache


def lengths(rows: torch.Tensor) -> torch.Tensor:
    """Embeddings as long as the longest prompt."""
    return torch.ones(len(rows), int(rows[:, 1].max()), 3)


JOINED = {
    "one tensor": lambda rows: rows,
    "several": lambda rows: (rows, None, (rows + 1, rows.bool())),
    "positions that all rows share": lambda rows: (rows, torch.arange(5)),
    "lists of rows": lambda rows: ([torch.ones(int(row[1])) * row[0] for row in rows], []),
}
LEFT_ALONE = {
    "both sides of guidance in one": lambda rows: torch.cat([rows * 0, rows]),
    "rows in another dimension": lambda rows: rows.T[:, :, None],
    "rows that depend on their place": lambda rows: rows + torch.arange(len(rows))[:, None] * 1000,
    "something else than tensors": lambda rows: {"embeds": rows},
}


@pytest.mark.parametrize("rule", JOINED.values(), ids=JOINED)
def test_rows_are_kept_and_joined_in_the_order_asked_for(rule: Any) -> None:
    """Each prompt is encoded once for each way of asking, and a batch is what the pipeline would have made."""
    pipe, cache = checked(rule)
    assert cache.keeps and cache.joins
    for prompts in (TWO, ["b", "a", "b"], ["b"]):
        expected = pipe.encode_prompt(prompts)
        with cache.remembering():
            assert str(pipe.encode_prompt(prompts)) == str(expected)
    pipe.num_encoded = 0
    with cache.remembering():
        pipe.encode_prompt(TWO)
        assert pipe.num_encoded == 0
        first = pipe.encode_prompt(TWO, 2.0)
        assert pipe.num_encoded == 2
        assert str(first) == str(pipe.encode_prompt(TWO, scale=2.0))
    assert pipe.num_encoded == 2


@pytest.mark.parametrize("rule", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_no_row_a_prompt_is_left_to_the_pipeline(rule: Any) -> None:
    """A batch is encoded as ever."""
    pipe, cache = checked(rule)
    assert not cache.joins
    expected = pipe.encode_prompt(TWO)
    with cache.remembering():
        assert str(pipe.encode_prompt(TWO)) == str(expected)
    assert pipe.num_encoded == 4


def test_prompts_of_several_lengths_are_encoded_together() -> None:
    """They are padded by the pipeline; those of one length are joined."""
    pipe, cache = checked(lengths)
    with cache.remembering():
        assert pipe.encode_prompt(["ab", "c"]).shape == (2, 2, 3)
        assert pipe.encode_prompt(["ab", "cd"]).shape == (2, 2, 3)
    assert not cache.of_one_form()


def test_a_prompt_that_is_encoded_otherwise_in_a_batch_is_refused() -> None:
    """As where a pipeline cuts off padding of one prompt alone."""
    with pytest.raises(ModelError, match=r"differently in a batch than alone.*set batch_size: 1"):
        checked(lambda rows: torch.ones(len(rows), 1 if len(rows) == 1 else 5, 3))


def test_what_is_kept_cannot_be_spoiled() -> None:
    """A pipeline that changes its embeddings in place changes its own."""
    pipe, cache = checked(lambda rows: rows)
    for prompts in (["a"], TWO):
        with cache.remembering():
            kept = pipe.encode_prompt(prompts).clone()
            pipe.encode_prompt(prompts).zero_()
            assert torch.equal(pipe.encode_prompt(prompts), kept)


def test_embeddings_of_the_caller_s_are_not_remembered() -> None:
    """A call with tensors is the pipeline's own."""
    pipe, cache = checked(lambda rows: rows)
    with cache.remembering():
        for _ in range(2):
            pipe.encode_prompt(TWO, prompt_embeds=torch.ones(1))
    assert pipe.num_encoded == 4


def test_a_pipeline_without_the_method_is_let_be() -> None:
    """There is nothing to remember."""
    pipe = SimpleNamespace(components={})
    cache = PromptCache(pipe)
    with cache.remembering():
        assert not hasattr(pipe, "encode_prompt")
    assert cache.keeps is False


def test_positions_beside_embeddings_are_no_hindrance(flux_folder: Path) -> None:
    """FLUX.1 gives positions that have no batch; its prompts are joined, with two text encoders."""
    adapter = make_diffusers(
        model=str(flux_folder), dtype="float32", device="cpu", max_sequence_length=16, height=16, width=16
    )
    assert isinstance(adapter, StockAdapter)
    assert adapter._prompts.keeps and adapter._prompts.joins

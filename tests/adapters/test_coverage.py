"""Every transformer class of diffusers keeps what sites promise, on a tiny real instance of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from trimpot.adapters.site_table import BLOCKS, NOT_COVERED
from trimpot.adapters.sites import find_blocks, find_sites, parse_line
from trimpot.proofs.transformers import EXAMPLES, VARIANTS, Example, transformer_classes
from trimpot.proofs.transformers.table import Row, mechanism, row, summary
from trimpot.testing import transformer as contract

ALL = {**EXAMPLES, **VARIANTS}

# Sites of the tiny instances that nothing reads: what the last block does to its text, and, in Flux 3 and Kandinsky 6,
# a whole stream whose input is missing.
LAST_TEXT = {"block.01.attn.text", "block.01.mlp.text"}
UNREAD = {
    **dict.fromkeys(
        (
            "CogVideoXTransformer3DModel",
            "CogView3PlusTransformer2DModel",
            "CogView4Transformer2DModel",
            "ConsisIDTransformer3DModel",
            "Cosmos3OmniTransformer",
            "EasyAnimateTransformer3DModel",
            "GlmImageTransformer2DModel",
            "JoyImageEditPlusTransformer3DModel",
            "JoyImageEditTransformer3DModel",
            "QwenImageTransformer2DModel",
        ),
        LAST_TEXT,
    ),
    "HunyuanVideo15Transformer3DModel": {"double.01.attn.text", "double.01.mlp.text"},
    "Flux3Transformer2DModel": {
        f"image_cond.0{block}.{branch}.joint" for block in (0, 1) for branch in ("attn", "mlp")
    },
    "kandinsky6-silent": {
        *(f"audio_text_transformer_blocks.0{block}.{branch}.text" for block in (0, 1) for branch in ("attn", "mlp")),
        *(f"decoder.0{block}.{branch}.audio" for block in (0, 1) for branch in ("attn", "attn2", "attn3", "mlp")),
        *(f"decoder.0{block}.attn3.video" for block in (0, 1)),
    },
}


@pytest.fixture(autouse=True)
def without_remarks() -> Iterator[None]:
    """What classes remark on when they are tiny is of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", ALL)
def test_a_class_keeps_every_promise(name: str) -> None:
    """Neutral to the bit, zero is the identity, rows apart, every site felt, removable, gradients right."""
    example = ALL[name]
    model = example.build()
    rows = min(2, example.max_rows)
    call = example.arguments(rows)
    contract.check_neutral(model, call)
    contract.check_zero(model, call, beside=example.beside)
    if rows > 1:
        contract.check_rows(model, call, rows)
    contract.check_removal(model, call)
    assert set(contract.check_every_site(model, call)) == UNREAD.get(name, set())
    if example.differentiable:
        dtype = getattr(torch, example.precision)
        contract.check_gradient(example.build(dtype), example.arguments(rows, dtype))


def test_every_class_of_diffusers_is_covered_or_has_a_reason() -> None:
    """No class is forgotten, none is listed twice, and none that is listed has gone."""
    classes = set(transformer_classes())
    assert set(EXAMPLES) | set(NOT_COVERED) == classes
    assert not set(EXAMPLES) & set(NOT_COVERED)


def test_every_line_is_used_and_no_two_sites_share_a_name() -> None:
    """Each block class of the table occurs in an example, and every site's name is its own within a model."""
    used = set()
    for example in ALL.values():
        model = example.build()
        used |= {block.kind for block in find_blocks(model)}
        names = [site.name for site in find_sites(model)]
        assert len(set(names)) == len(names), example.kind
    assert used == set(BLOCKS)


class Broken(nn.Module):
    """A transformer of two blocks, with one fault to order."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([BrokenBlock(fault) for _ in range(2)])

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor]:
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return (hidden_states,)


class BrokenBlock(nn.Module):
    """attn and mlp are added to the stream, unless the fault says otherwise."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.attn, self.mlp, self.extra = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        branch = self.attn(hidden_states)
        if self.fault == "normed":
            branch = self.norm(branch)
        elif self.fault == "detached":
            branch = branch.detach()
        elif self.fault == "mixed rows":
            branch = branch.flip(0)
        hidden_states = hidden_states + branch + self.mlp(hidden_states) * (self.fault != "unfelt")
        return hidden_states + self.extra(hidden_states) if self.fault == "another branch" else hidden_states


LINE = {"BrokenBlock": "block: attn.image=attn mlp.image=mlp"}
CALL = {"hidden_states": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize(
    ("check", "fault", "complaint"),
    [
        (contract.check_zero, "another branch", "is not the identity"),
        (contract.check_every_site, "normed", r"block\.00\.attn\.image moves nothing"),
        (lambda *args: contract.check_rows(args[0], args[1], 2, args[2]), "mixed rows", "row 0"),
        (contract.check_gradient, "detached", "autograd says"),
    ],
)
def test_the_contract_finds_a_fault(check: Any, fault: str, complaint: str) -> None:
    """Each check passes on a sound transformer and names what is wrong with a broken one."""
    check(Broken("none").eval(), CALL, LINE)
    with pytest.raises(AssertionError, match=complaint):
        check(Broken(fault).eval(), CALL, LINE)


def test_the_contract_names_a_site_that_is_not_felt() -> None:
    """A branch whose output is thrown away has dead sites, by name; a sound transformer has none."""
    assert contract.check_transformer(Broken("none").eval(), CALL, 2, LINE) == []
    assert contract.check_every_site(Broken("unfelt").eval(), CALL, LINE) == [
        "block.00.mlp.image",
        "block.01.mlp.image",
    ]


def test_a_row_of_the_table_says_what_was_found() -> None:
    """A class's counts, what its sites scale, the verdicts, and what nothing reads."""
    found = row("QwenImageTransformer2DModel")
    assert found.knobs == (60, 120, 240)
    assert found.mechanisms == ("item", "output")
    assert found.holds
    assert set(found.unread) == LAST_TEXT
    assert row("RFD4ProteinaTransformer").reason == NOT_COVERED["RFD4ProteinaTransformer"]


def test_a_class_that_cannot_be_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that a later diffusers refuses is a row that was not run, and does not count as good."""
    monkeypatch.setitem(EXAMPLES, "PRXTransformer2DModel", Example("PRXTransformer2DModel", "no_such_setting=1", ""))
    found = row("PRXTransformer2DModel")
    assert found.reason.startswith("not run: TypeError")
    assert summary([found]).startswith("0 of 1")


def test_a_class_of_a_later_diffusers_shows_as_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer that nobody has looked at is listed, with no claim."""
    monkeypatch.delitem(EXAMPLES, "PRXTransformer2DModel")
    assert row("PRXTransformer2DModel") == Row("PRXTransformer2DModel", reason="it has no site line yet")


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("attn.image=norm1[1]", "gate"),
        ("attn.image=attn[0]", "item"),
        ("attn.image=attn1", "output"),
        ("mlp.image=ffn_norm2", "post-norm"),
    ],
)
def test_what_a_site_scales(word: str, what: str) -> None:
    """The four ways of reaching a residual branch."""
    assert mechanism(parse_line(f"block: {word}")[1][0]) == what

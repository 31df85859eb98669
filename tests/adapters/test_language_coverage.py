"""Causal language models of transformers keep what sites promise, on tiny real instances of them."""

from __future__ import annotations

import pytest
from trimpot.adapters.language.site_table import LANGUAGE_BLOCKS
from trimpot.adapters.site_table import BLOCKS
from trimpot.adapters.sites import find_sites, parse_line
from trimpot.proofs.language import causal_classes, examples, reading_classes
from trimpot.proofs.language.classes import BESIDE, CONFIGS, FLOAT32, NOT_DIFFERENTIATED, NOT_RUN
from trimpot.proofs.language.table import row
from trimpot.proofs.transformers.__main__ import checked
from trimpot.proofs.transformers.table import CHECKS, quiet, summary

#: A class of each kind: pre-norm, sandwich norms, norms behind, parallel, GPT-2, experts, state spaces, a hybrid,
#: parallel in turn, and norms over the sum.
KINDS = (
    "LlamaForCausalLM",
    "Gemma3ForCausalLM",
    "Olmo2ForCausalLM",
    "GPTNeoXForCausalLM",
    "GPT2LMHeadModel",
    "MixtralForCausalLM",
    "MambaForCausalLM",
    "BambaForCausalLM",
    "FalconForCausalLM",
    "BertLMHeadModel",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_of_sites_holds(kind: str) -> None:
    with quiet():
        found = row(kind)
    assert found.holds and set(found.verdicts) == set(CHECKS), found


@pytest.mark.slow
def test_every_check_of_sites_holds_for_every_causal_language_model() -> None:
    with quiet():
        found = [row(kind) for kind in causal_classes()]
    assert {one.kind: one for one in found if not one.holds and one.kind not in NOT_RUN} == {}
    assert all(one.reason for one in found if one.kind in NOT_RUN)
    assert f"{len(found) - len(NOT_RUN)} of {len(found)} causal language models" in summary(found, "transformers")


#: Classes that read pictures or sound as well, in the ways in which their text model lies in them.
READING = ("LlavaForConditionalGeneration", "Gemma3ForConditionalGeneration", "Qwen3VLForConditionalGeneration")
#: At least so many of such classes can be run with texts alone and have a text model with a site line.
MOST = 55


@pytest.mark.parametrize("kind", READING)
def test_every_check_of_sites_holds_for_the_text_model_of_a_class_that_reads_more(kind: str) -> None:
    [found] = checked([kind], "transformers")
    assert found.holds and set(found.verdicts) == set(CHECKS), found


@pytest.mark.slow
def test_the_text_models_of_classes_that_read_more_are_covered_for_nothing_or_not_at_all() -> None:
    """One that is run keeps every promise; the others need more than texts, or have no site line."""
    with quiet():
        found = [row(kind) for kind in reading_classes()]
    run = [one for one in found if not one.reason and "Error" not in one.verdicts["neutral"]]
    assert [one for one in run if not one.holds] == [] and len(run) >= MOST


def test_every_line_is_read_and_no_class_has_two() -> None:
    assert not set(BLOCKS) & set(LANGUAGE_BLOCKS)
    for line in LANGUAGE_BLOCKS.values():
        label, sites = parse_line(line)
        assert label == "layer" and {site.stream for site in sites} == {"text"}


def test_what_is_particular_to_a_class_names_a_class_that_there_is() -> None:
    assert {*CONFIGS, *FLOAT32, *NOT_DIFFERENTIATED, *NOT_RUN} <= set(causal_classes())
    assert set(BESIDE) <= set(LANGUAGE_BLOCKS)
    assert not set(CONFIGS) & set(NOT_RUN)


def test_a_scale_of_a_branch_is_a_factor_of_its_last_weights() -> None:
    """The independent route: the linear layers themselves are multiplied."""
    import torch
    from trimpot.adapters.scaling import Scaling

    ends = {
        "LlamaForCausalLM": ("self_attn.o_proj", "mlp.down_proj"),
        "GPTNeoXForCausalLM": ("attention.dense", "mlp.dense_4h_to_h"),
        "GPT2LMHeadModel": ("attn.c_proj", "mlp.c_proj"),
        "OPTForCausalLM": ("self_attn.out_proj", "fc2"),
        "Gemma3ForCausalLM": ("post_attention_layernorm", "post_feedforward_layernorm"),
        "BertLMHeadModel": ("attention.output.dense", "output.dense"),
    }
    for kind, paths in ends.items():
        with quiet():
            example = examples()[kind]
            scaled, folded = example.build(), example.build()
        sites = find_sites(scaled)
        scales = 1 + 0.5 * torch.rand(1, len(sites), generator=torch.Generator().manual_seed(0))
        Scaling(scaled, sites).set(scales)
        blocks = {site.block: site.path for site in sites}
        with torch.no_grad():
            for block, path in blocks.items():
                home = next(found for found in _parents(path) if all(_has(folded, f"{found}.{end}") for end in paths))
                for end, branch in zip(paths, ("attn", "mlp"), strict=True):
                    at = next(n for n, site in enumerate(sites) if (site.block, site.branch) == (block, branch))
                    for name, parameter in folded.get_submodule(f"{home}.{end}").named_parameters():
                        shift = 1.0 if kind == "Gemma3ForCausalLM" and name == "weight" else 0.0  # weights are 1 + w
                        parameter.copy_((parameter + shift) * scales[0, at] - shift)
            one, other = scaled(**example.arguments()).logits, folded(**example.arguments()).logits
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:at]) for at in range(len(parts) - 1, 0, -1)]


def _has(model: object, path: str) -> bool:
    try:
        model.get_submodule(path)  # type: ignore[attr-defined]
    except AttributeError:
        return False
    return True

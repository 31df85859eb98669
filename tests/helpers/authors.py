"""Transformers' weights under the names and in the layout of their authors, written out by hand."""

from __future__ import annotations

import re

import torch
from torch import Tensor

State = dict[str, Tensor]


def wan_by_its_authors(state: State) -> State:
    """A Wan's weights under the names of its authors."""
    names = [
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        (r"^proj_out", "head.head"),
        (r"^scale_shift_table", "head.modulation"),
        ("scale_shift_table", "modulation"),
        (r"attn1\.", "self_attn."),
        (r"attn2\.", "cross_attn."),
        (r"to_out\.0\.", "o."),
        (r"to_([qkv])\.", r"\1."),
        (r"ffn\.net\.0\.proj", "ffn.0"),
        (r"ffn\.net\.2", "ffn.2"),
        (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
    ]
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in names:
            new = re.sub(pattern, replacement, new)
        renamed[new] = value
    return renamed


def sd3_by_its_authors(state: State) -> State:
    """A Stable Diffusion 3's weights under the names of its authors, who fuse projections."""
    names = [
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj", "x_embedder.proj"),
        (r"time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
        (r"time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^proj_out", "final_layer.linear"),
        (r"^transformer_blocks", "joint_blocks"),
        (r"(attn2?)\.norm_(added_)?([qk])", r"\2BLOCK.\1.ln_\3"),
        (r"attn\.to_add_out", "added_BLOCK.attn.proj"),
        (r"(attn2?)\.to_out\.0", r"BLOCK.\1.proj"),
        (r"norm1(_context)?\.linear", r"\1BLOCK.adaLN_modulation.1"),
        (r"ff(_context)?\.net\.0\.proj", r"\1BLOCK.mlp.fc1"),
        (r"ff(_context)?\.net\.2", r"\1BLOCK.mlp.fc2"),
        (r"(_context|added_)BLOCK", "context_block"),
        ("BLOCK", "x_block"),
    ]
    fused = [("x_block.attn.qkv", "attn.to_{}"), ("x_block.attn2.qkv", "attn2.to_{}")]
    fused += [("context_block.attn.qkv", "attn.add_{}_proj")]
    last = max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    left, renamed = dict(state), {}
    for block in range(last + 1):
        for theirs, ours in fused:
            for end in ("weight", "bias"):
                parts = [f"transformer_blocks.{block}.{ours.format(each)}.{end}" for each in "qkv"]
                if parts[0] in left:
                    renamed[f"joint_blocks.{block}.{theirs}.{end}"] = torch.cat([left.pop(part) for part in parts])
    swapped = (f"transformer_blocks.{last}.norm1_context.linear", "norm_out.linear")
    for name, value in left.items():
        new = name
        for pattern, replacement in names:
            new = re.sub(pattern, replacement, new)
        renamed[new] = torch.cat(value.chunk(2)[::-1]) if name.startswith(swapped) else value
    return renamed


def prefixed(state: State) -> State:
    return {f"model.diffusion_model.{name}": value for name, value in state.items()}

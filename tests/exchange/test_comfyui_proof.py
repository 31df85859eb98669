"""Equality with diffusers on ComfyUI's own models, if `COMFYUI_PATH` is set: `python -m trimpot.proofs.comfyui`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from trimpot.proofs.comfyui.twins import TWINS

needs_comfyui = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH is not set")


@needs_comfyui
@pytest.mark.parametrize("family", TWINS)
def test_comfyui_with_the_node_makes_what_diffusers_makes(family: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trimpot.proofs.comfyui", family], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_comfyui
def test_comfyui_refuses_what_would_not_be_used() -> None:
    """With its own guiders, samplers and the node that compiles."""
    code = textwrap.dedent(
        """
        from trimpot.proofs.comfyui.proof import CASES, Proof, prepare
        from trimpot.proofs.comfyui.twins import TWINS
        prepare()
        import torch
        import comfy.samplers
        from comfy_api.torch_helpers import set_torch_compile_wrapper
        proof, case = Proof(TWINS["sd3"]), CASES["guided"]

        def refused(message, model, guider=None):
            try:
                proof.sample(model, case, guider)
            except ValueError as error:
                assert message in str(error), error
            else:
                raise AssertionError(message)
            assert not any(module._forward_hooks for module in proof.base.modules())

        plain = proof.sample(proof.patcher, case)
        positive = [[proof.prompts[0], {"pooled_output": proof.pooled[0]}]]
        basic = comfy.samplers.CFGGuider(proof.applied(case))
        basic.inner_set_conds({"positive": positive})
        refused("empty negative prompt", None, basic)
        other = proof.applied(case)
        other.set_model_sampler_cfg_function(lambda args: args["cond"])
        refused("weights were not used", other)
        for order in ("before", "after"):
            model = proof.patcher.clone()
            if order == "before":
                set_torch_compile_wrapper(model, backend="eager")
                kept, proof.patcher = proof.patcher, model
                model = proof.applied(case)
                proof.patcher = kept
            else:
                model = proof.applied(case)
                set_torch_compile_wrapper(model, backend="eager")
            refused("the model is compiled", model)
        assert torch.equal(proof.sample(proof.patcher, case), plain), "the model is not as it was"
        """
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""`COMFYUI_PATH=FOLDER python -m trimpot.proofs.comfyui [FAMILY ...]`: prove the export for ComfyUI on its own models.

FOLDER is a checkout of ComfyUI whose requirements are installed. For each family, one tiny checkpoint with random
weights is loaded into ComfyUI's model class and into that of diffusers. An exported folder is loaded as ComfyUI loads
custom nodes, its node is applied to ComfyUI's `ModelPatcher`, and ComfyUI's `CFGGuider` samples with it on the CPU. The
reference is the model of diffusers, scaled by trimpot, in an Euler loop of a few lines. The table shows the largest
difference of the final latents, relative to their largest value, and beside it what the site of least effect changes
when it alone is scaled by 1.5: far more, so a site in the wrong place would be seen. The exit status is 1 if a
difference is above 3e-6, or is not far below the least effect.
"""

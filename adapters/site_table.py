"""The site table: the modules through which residual branches join the stream, for every block class of diffusers.

`sites.py` explains the syntax of a line. `image` is the stream that becomes the output, be it pictures, video or sound;
a model with separate video and sound has one stream for each. `joint` is text and image in one sequence.

`python -m trimpot.proofs.transformers` checks every line on a tiny real model and prints the results.
"""

from __future__ import annotations

_LINES: dict[tuple[str, ...], str] = {
    # Norms that return gates: scaling the gate scales the branch at a fraction of the cost. If both streams share one
    # feed-forward network (CogVideoX, CogView, EasyAnimate), only the gates tell the two branches apart.
    ("JointTransformerBlock",): (
        "joint: attn.image=norm1[1] mlp.image=norm1[4] attn2.image=norm1[6]?use_dual_attention "
        "attn.text=norm1_context[1]?!context_pre_only mlp.text=norm1_context[4]?!context_pre_only"
    ),
    (
        "AuraFlowJointTransformerBlock",
        "BriaFiboTransformerBlock",
        "BriaTransformerBlock",
        "ChromaTransformerBlock",
        "FluxTransformerBlock",
        "HunyuanImageTransformerBlock",
        "HunyuanVideo15TransformerBlock",
        "HunyuanVideoTransformerBlock",
        "LongCatImageTransformerBlock",
        "OvisImageTransformerBlock",
    ): "double: attn.image=norm1[1] mlp.image=norm1[4] attn.text=norm1_context[1] mlp.text=norm1_context[4]",
    ("MotifVideoTransformerBlock",): (
        "double: attn.image=norm1[1] attn2.image=cross_attn?cross_attn mlp.image=norm1[4] "
        "attn.text=norm1_context[1] mlp.text=norm1_context[4]"
    ),
    (
        "BriaFiboSingleTransformerBlock",
        "BriaSingleTransformerBlock",
        "ChromaSingleTransformerBlock",
        "FluxSingleTransformerBlock",
        "HunyuanImageSingleTransformerBlock",
        "HunyuanVideoSingleTransformerBlock",
        "LongCatImageSingleTransformerBlock",
        "MotifVideoSingleTransformerBlock",
        "OvisImageSingleTransformerBlock",
    ): "single: single.joint=norm[1]",
    ("AuraFlowSingleTransformerBlock",): "single: attn.joint=norm1[1] mlp.joint=norm1[4]",
    (
        "HunyuanImageIndividualTokenRefinerBlock",
        "HunyuanVideo15IndividualTokenRefinerBlock",
        "HunyuanVideoIndividualTokenRefinerBlock",
    ): "refiner: attn.text=norm_out[0] mlp.text=norm_out[1]",
    (
        "CogVideoXBlock",
        "ConsisIDBlock",
        "EasyAnimateTransformerBlock",
    ): "block: attn.image=norm1[2] attn.text=norm1[3] mlp.image=norm2[2] mlp.text=norm2[3]",
    (
        "CogView3PlusTransformerBlock",
        "CogView4TransformerBlock",
        "GlmImageTransformerBlock",
    ): "block: attn.image=norm1[1] mlp.image=norm1[4] attn.text=norm1[6] mlp.text=norm1[9]",
    ("CosmosTransformerBlock",): "block: attn.image=norm1[1] attn2.image=norm2[1] mlp.image=norm3[1]",
    # Joint attention that returns both streams, in blocks that take their gates from a modulation shared by all blocks
    # or from a plain tensor, so that no module of the block returns its gates.
    (
        "JoyImageEditPlusTransformerBlock",
        "JoyImageTransformerBlock",
        "QwenImageTransformerBlock",
    ): "block: attn.image=attn[0] attn.text=attn[1] mlp.image=img_mlp mlp.text=txt_mlp",
    (
        "Flux2TransformerBlock",
        "HunyuanVideoTokenReplaceTransformerBlock",  # two gates a branch: one for the given frame, one for the others
    ): "double: attn.image=attn[0] attn.text=attn[1] mlp.image=ff mlp.text=ff_context",
    ("HiDreamImageTransformerBlock",): "double: attn.image=attn1[0] attn.text=attn1[1] mlp.image=ff_i mlp.text=ff_t",
    ("Cosmos3VLTextMoTDecoderLayer",): (
        "block: attn.text=self_attn[0] attn.image=self_attn[1] mlp.text=mlp mlp.image=mlp_moe_gen"
    ),
    # Branches whose whole output enters the stream, gated by a table, by a modulation of the model, or not at all.
    ("Flux2SingleTransformerBlock",): "single: single.joint=attn",
    ("HunyuanVideoTokenReplaceSingleTransformerBlock",): "single: single.joint=proj_out",
    ("HiDreamImageSingleTransformerBlock",): "single: attn.joint=attn1 mlp.joint=ff_i",
    ("Flux3SingleTransformerBlock",): "single: attn.joint=attn mlp.joint=ff",
    ("Flux3ModeTransformerBlock",): "mode: attn.joint=attn mlp.joint=ff",
    ("Krea2TransformerBlock", "MiniMaxH3TransformerBlock"): "block: attn.joint=attn mlp.joint=ff",
    ("Krea2TextFusionBlock", "MiniMaxH3TokenRefinerBlock"): "refiner: attn.text=attn mlp.text=ff",
    ("ErnieImageSharedAdaLNBlock",): "block: attn.joint=self_attention mlp.joint=mlp@1",  # the sequence comes first
    ("OmniGenBlock",): "block: attn.joint=self_attn mlp.joint=mlp",
    ("QwenImage21TransformerBlock",): "block: attn.joint=attn mlp.joint=img_mlp",
    ("NucleusMoEImageTransformerBlock",): "block: attn.image=attn mlp.image=img_mlp",
    ("PRXBlock",): "block: attn.image=attention mlp.image=down_proj",
    ("MiniMaxMusic3DepthDecoderBlock",): "block: attn.image=attn mlp.image=down_proj",
    ("MiniMaxMusic3TransformerBlock",): "block: attn.image=attn mlp.image=ff_out",
    ("Kandinsky6SRTransformerBlock",): "block: attn.image=self_attention mlp.image=feed_forward",
    (
        "AllegroTransformerBlock",
        "BasicTransformerBlock",
        "HunyuanDiTBlock",
        "LTXVideoTransformerBlock",
        "SanaTransformerBlock",
        "SanaVideoTransformerBlock",
        "SanaWMLTX2RefinerTransformerBlock",
        "StableAudioDiTBlock",
    ): "block: attn.image=attn1 attn2.image=attn2?attn2 mlp.image=ff",
    ("BasicTransformerBlockDreamLite",): (
        "block: attn.image=attn1?use_self_attention attn2.image=attn2?attn2 mlp.image=ff"
    ),
    ("DecoderLayer",): (  # of T5FilmDecoder
        "block: attn.image=layer.0.attention attn2.image=layer.1.attention mlp.image=layer.2.DenseReluDense"
    ),
    ("TemporalBasicTransformerBlock",): (
        "temporal: mlp2.image=ff_in?is_res attn.image=attn1 attn2.image=attn2?attn2 mlp.image=ff?is_res"
    ),
    (
        "AnyFlowTransformerBlock",
        "HeliosTransformerBlock",
        "SkyReelsV2TransformerBlock",
        "WanTransformerBlock",
    ): "block: attn.image=attn1 attn2.image=attn2 mlp.image=ffn",
    ("WanVACETransformerBlock",): "vace: attn.image=attn1 attn2.image=attn2 mlp.image=ffn",
    ("WanAnimate2TransformerBlock",): "block: attn.image=self_attn attn2.image=cross_attn mlp.image=ffn",
    ("AudioDiTBlock",): "block: attn.image=self_attn attn2.image=cross_attn?use_cross_attn mlp.image=ffn",
    ("AceStepTransformerBlock",): "block: attn.image=self_attn attn2.image=cross_attn?cross_attn mlp.image=mlp",
    ("StableAudio3DiTBlock",): "block: attn.image=self_attn attn2.image=cross_attn mlp.image=ff",
    ("SanaVideoMSCamCtrlBlock",): "block: attn.image=attn attn2.image=cross_attn mlp.image=mlp",
    ("Kandinsky5TransformerEncoderBlock",): "encoder: attn.text=self_attention mlp.text=feed_forward",
    ("Kandinsky5TransformerDecoderBlock",): (
        "decoder: attn.image=self_attention attn2.image=cross_attention mlp.image=feed_forward"
    ),
    ("Kandinsky6TransformerEncoderBlock",): "encoder: attn.text=attn mlp.text=feed_forward",
    ("Kandinsky6FusedTransformerDecoderBlock",): (
        "decoder: attn.video=video_dec_block.self_attention attn2.video=video_dec_block.cross_attention "
        "attn3.video=va_cross_attention mlp.video=video_dec_block.feed_forward "
        "attn.audio=audio_dec_block.self_attention attn2.audio=audio_dec_block.cross_attention "
        "attn3.audio=av_cross_attention mlp.audio=audio_dec_block.feed_forward"
    ),
    ("LTX2VideoTransformerBlock",): (
        "block: attn.video=attn1 attn2.video=attn2 attn3.video=audio_to_video_attn mlp.video=ff "
        "attn.audio=audio_attn1 attn2.audio=audio_attn2 attn3.audio=video_to_audio_attn mlp.audio=audio_ff"
    ),
    # Sandwich blocks: a second norm between branch and stream would undo any factor on the branch, so the output of
    # that norm is scaled.
    ("Lumina2TransformerBlock",): "block: attn.joint=norm2 mlp.joint=ffn_norm2",
    ("LuminaNextDiTBlock",): "block: attn.image=norm2 mlp.image=ffn_norm2",
    ("Ideogram4TransformerBlock", "ZImageTransformerBlock"): "block: attn.joint=attention_norm2 mlp.joint=ffn_norm2",
    ("BriaFibo2TransformerBlock",): (
        "block: attn.joint=attention_norm2 attn2.joint=cross_attn_norm2?cross_attention mlp.joint=ffn_norm2"
    ),
    ("MochiTransformerBlock",): (
        "block: attn.image=norm2 mlp.image=norm4 "
        "attn.text=norm2_context?!context_pre_only mlp.text=norm4_context?!context_pre_only"
    ),
}

BLOCKS: dict[str, str] = {name: line for names, line in _LINES.items() for name in names}
"""The site line of each block class."""

NOT_COVERED: dict[str, str] = {
    "RFD4ProteinaTransformer": "it folds proteins, and half of its work goes into a stream of token pairs",
}
"""The reason why a transformer class of diffusers has no line."""

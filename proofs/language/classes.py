"""What is particular to single classes: configuration fields, blocks that do more than add, and what cannot be run."""

from __future__ import annotations

from collections.abc import Mapping

_MLA = "num_key_value_heads=4 head_dim=4"
_VISION = (
    "{'hidden_size':16,'intermediate_size':16,'num_hidden_layers':1,'num_attention_heads':2,'image_size':28,"
    "'patch_size':14,'crop_size':28}"
)
_AUDIO = (
    "{'hidden_size':16,'intermediate_size':16,'num_blocks':1,'num_attention_heads':2,'ext_pw_out_channel':16,"
    "'nemo_conv_channels':16,'input_size':16}"
)
_HYBRID = "layer_types=['linear_attention','full_attention']"

#: Fields of a class's configuration, beside those that are small in every class.
CONFIGS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "AXK1ForCausalLM",
            "AXK2ForCausalLM",
            "DeepseekV2ForCausalLM",
            "DeepseekV3ForCausalLM",
            "DeepseekV32ForCausalLM",
            "Glm4MoeLiteForCausalLM",
            "GlmMoeDsaForCausalLM",
            "MiniCPM3ForCausalLM",
            "Mistral4ForCausalLM",
            "YoutuForCausalLM",
        ),
        _MLA,
    ),
    **dict.fromkeys(
        ("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "OlmoHybridForCausalLM"), _HYBRID
    ),
    "BambaForCausalLM": "mamba_n_heads=4 mamba_d_head=16 mamba_d_state=8 mamba_n_groups=1 attn_layer_indices=[1]",
    "Mistral4ForCausalLM": "num_key_value_heads=4",
    "Dots3NoteForCausalLM": "num_key_value_heads=4",
    "CohereCompassForCausalLM": (
        "rope_parameters={'full_attention':{'rope_type':'default','rope_theta':10000.0},"
        "'sliding_attention':{'rope_type':'default','rope_theta':10000.0}}"
    ),
    "Zamba2ForCausalLM": (
        "layer_types=['mamba','hybrid','mamba','hybrid'] num_hidden_layers=4 mamba_headdim=8 n_mamba_heads=8 "
        "mamba_ngroups=1 hybrid_layer_ids=[1,3]"
    ),
    "ZambaForCausalLM": "layer_types=['mamba','hybrid','mamba','hybrid'] num_hidden_layers=4 n_mamba_heads=2",
    "GitForCausalLM": f"vision_config={_VISION}",
    "Phi4MultimodalForCausalLM": f"vision_config={_VISION} audio_config={_AUDIO}",
    "FalconH1ForCausalLM": "mamba_d_ssm=64 mamba_n_heads=4 mamba_d_head=16 mamba_n_groups=1",
    "GPTNeoForCausalLM": "attention_types=[[['global','local'],1]]",
    "Gemma3nForCausalLM": (
        "num_hidden_layers=4 num_kv_shared_layers=2 activation_sparsity_pattern=[0.0,0.0,0.0,0.0] "
        "layer_types=['sliding_attention','full_attention','sliding_attention','full_attention']"
    ),
    "GraniteMoeHybridForCausalLM": (
        "mamba_n_heads=4 mamba_d_head=16 mamba_d_state=8 mamba_n_groups=1 layer_types=['mamba','attention']"
    ),
    "Lfm2MoeForCausalLM": "layer_types=['conv','full_attention']",
    "Lfm2ForCausalLM": "layer_types=['conv','full_attention']",
    "LongcatFlashForCausalLM": "zero_expert_num=2 num_key_value_heads=4 head_dim=4",
    "Mamba2ForCausalLM": "num_heads=8 head_dim=8 state_size=8 n_groups=1",
    "XmodForCausalLM": "default_language=en_XX",
    "ZayaForCausalLM": "num_experts_per_tok=1",
    "DbrxForCausalLM": (
        "ffn_config={'ffn_hidden_size':48,'moe_num_experts':4,'moe_top_k':2} "
        "attn_config={'rope_theta':10000.0,'clip_qkv':8.0,'kv_n_heads':2}"
    ),
    "JambaForCausalLM": "attn_layer_period=2 attn_layer_offset=1 expert_layer_period=2 expert_layer_offset=1",
    "RecurrentGemmaForCausalLM": "num_hidden_layers=3",
}

#: Block classes that do more than add branches to their stream, each with what else they do.
BESIDE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "BartDecoderLayer",
            "BertGenerationLayer",
            "BertLayer",
            "BigBirdLayer",
            "BlenderbotSmallDecoderLayer",
            "Block",
            "CamembertLayer",
            "Data2VecTextLayer",
            "ElectraLayer",
            "ErnieLayer",
            "GitLayer",
            "MarianDecoderLayer",
            "MvpDecoderLayer",
            "PLBartDecoderLayer",
            "ProphetNetDecoderLayer",
            "RemBertLayer",
            "RoCBertLayer",
            "RoFormerLayer",
            "RobertaLayer",
            "TrOCRDecoderLayer",
            "XLMRobertaLayer",
            "XmodLayer",
        ),
        "it normalises the sum of stream and branch",
    ),
    **dict.fromkeys(
        ("BeamDecoderLayer", "DogeDecoderLayer", "DoryDecoderLayer", "MiniMaxDecoderLayer", "ZayaDecoderLayer"),
        "it weighs the stream",
    ),
    **dict.fromkeys(
        ("DeepseekV4DecoderLayer", "Gemma3nTextDecoderLayer", "HYV4DecoderLayer", "Qwen4ExpTextDecoderLayer"),
        "it mixes several streams",
    ),
    **dict.fromkeys(
        ("Inkling2LoopSlidingDecoderLayer", "Inkling2SlidingDecoderLayer"), "it reads the streams of earlier blocks"
    ),
    "GPTNeoXJapaneseLayer": "it adds a bias to the stream",
    "RwkvBlock": "the first block normalises its input",
}


#: Classes that cannot compute in float64.
FLOAT32 = ("Kosmos2TextForCausalLM", "Kosmos2_5TextForCausalLM", "XGLMForCausalLM")

#: Classes whose derivatives cannot be compared with differences, each with the reason.
NOT_DIFFERENTIATED: Mapping[str, str] = {
    "DoryForCausalLM": "it is so steep that differences of any length miss its derivative",
    "HrmTextForCausalLM": "it is differentiated through the last of its cycles only",
}

#: Classes of which no tiny instance is run, each with the reason.
NOT_RUN: Mapping[str, str] = {
    "BltForCausalLM": "it joins several transformers of its own, for bytes and for patches of bytes",
    "FuyuForCausalLM": "its text model is a PersimmonForCausalLM, which is listed; the rest reads pictures",
    "Gemma4UnifiedAssistantForCausalLM": "it drafts tokens from the states of another model",
    "Gemma4AssistantForCausalLM": "it drafts tokens from the states of another model",
    "MusicgenForCausalLM": "it predicts the codes of sound, several at a time",
    "MusicgenMelodyForCausalLM": "it predicts the codes of sound, several at a time",
    "XLMWithLMHeadModel": "its attentions and networks are in two lists, so that it has no blocks",
    "XLNetLMHeadModel": "its attention joins the stream within one module, which returns their sum",
    "ReformerModelWithLMHead": "its blocks are reversible: they compute with two streams in turn",
}

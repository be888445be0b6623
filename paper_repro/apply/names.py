"""What trainers call the parameters of a decoder such as ours: pre-norm, RoPE, gated MLP.

A name stands for all blocks, with `*` for their number. A name with several module types is a
matrix that holds them all; where a trainer has the types also one by one, both are listed.
"""

from __future__ import annotations

from collections.abc import Mapping

from paper_repro.parameterization import ModuleType

Names = Mapping[str, tuple[ModuleType, ...]]

_QKV: tuple[ModuleType, ...] = ("query", "key", "value")

TORCHTITAN: Names = {
    "tok_embeddings.weight": ("embedding",),
    "layers.*.attention_norm.weight": ("attention_norm",),
    "layers.*.attention.qkv_linear.wqkv.weight": _QKV,  # its default, fuse_qkv
    "layers.*.attention.qkv_linear.wq.weight": ("query",),
    "layers.*.attention.qkv_linear.wk.weight": ("key",),
    "layers.*.attention.qkv_linear.wv.weight": ("value",),
    "layers.*.attention.q_norm.weight": ("query_norm",),
    "layers.*.attention.k_norm.weight": ("key_norm",),
    "layers.*.attention.wo.weight": ("attention_out",),
    "layers.*.ffn_norm.weight": ("mlp_norm",),
    "layers.*.feed_forward.w1.weight": ("mlp_gate",),
    "layers.*.feed_forward.w3.weight": ("mlp_in",),
    "layers.*.feed_forward.w2.weight": ("mlp_out",),
    "norm.weight": ("final_norm",),
    "lm_head.weight": ("unembedding",),
}
"""Llama 3 and Qwen3 of torchtitan."""

AUTOMODEL: Names = {
    "model.embed_tokens.weight": ("embedding",),
    "model.layers.*.input_layernorm.weight": ("attention_norm",),
    "model.layers.*.self_attn.q_proj.weight": ("query",),
    "model.layers.*.self_attn.k_proj.weight": ("key",),
    "model.layers.*.self_attn.v_proj.weight": ("value",),
    "model.layers.*.self_attn.q_norm.weight": ("query_norm",),
    "model.layers.*.self_attn.k_norm.weight": ("key_norm",),
    "model.layers.*.self_attn.o_proj.weight": ("attention_out",),
    "model.layers.*.post_attention_layernorm.weight": ("mlp_norm",),
    "model.layers.*.mlp.gate_proj.weight": ("mlp_gate",),
    "model.layers.*.mlp.up_proj.weight": ("mlp_in",),
    "model.layers.*.mlp.down_proj.weight": ("mlp_out",),
    "model.norm.weight": ("final_norm",),
    "lm_head.weight": ("unembedding",),
}
"""Llama and Qwen3 of NeMo Automodel, which are those of Hugging Face."""

MEGATRON: Names = {
    "embedding.word_embeddings.weight": ("embedding",),
    "decoder.layers.*.input_layernorm.weight": ("attention_norm",),
    "decoder.layers.*.self_attention.linear_qkv.layer_norm_weight": ("attention_norm",),  # fused
    "decoder.layers.*.self_attention.linear_qkv.weight": _QKV,
    "decoder.layers.*.self_attention.q_layernorm.weight": ("query_norm",),
    "decoder.layers.*.self_attention.k_layernorm.weight": ("key_norm",),
    "decoder.layers.*.self_attention.linear_proj.weight": ("attention_out",),
    "decoder.layers.*.pre_mlp_layernorm.weight": ("mlp_norm",),
    "decoder.layers.*.mlp.linear_fc1.layer_norm_weight": ("mlp_norm",),
    "decoder.layers.*.mlp.linear_fc1.weight": ("mlp_gate", "mlp_in"),
    "decoder.layers.*.mlp.linear_fc2.weight": ("mlp_out",),
    "decoder.final_layernorm.weight": ("final_norm",),
    "output_layer.weight": ("unembedding",),
}
"""The GPT model of Megatron-core, with Transformer Engine's fused norms or its own."""

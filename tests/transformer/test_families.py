"""Families in both directions, and the files they refuse."""

from typing import Any

import pytest
import torch

from benchmarks.parity import CASES, DIRECTIONS, ENCODERS, LIMIT, Case, jitter, our_config
from zhumo.transformer import Config, Transformer
from zhumo.transformer.families import FAMILIES, from_disk, read_config, shapes, to_disk, write_config

SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
    "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
    "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "transformers_version": "4.42.3",
    "use_cache": True, "vocab_size": 49152,
}  # fmt: skip
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
LLAMA32 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
    "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": True,
    "vocab_size": 128256,
}  # fmt: skip
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
XLM_ROBERTA = {
    "architectures": ["XLMRobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
    "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
    "model_type": "xlm-roberta", "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": True,
    "pad_token_id": 1, "position_embedding_type": "absolute", "transformers_version": "4.17.0.dev0",
    "type_vocab_size": 1, "use_cache": True, "vocab_size": 250002,
}  # fmt: skip
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}  # as Qwen's cards ask for
BERT = {
    "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "directionality": "bidi",
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform", "type_vocab_size": 2, "vocab_size": 21128,
}  # fmt: skip
GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257,
}  # fmt: skip
T5 = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512,
    "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0, "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_heads": 8, "num_layers": 6,
    "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128,
    "task_specific_params": {"translation_en_to_de": {"num_beams": 4, "prefix": "translate English to German: "}},
}  # fmt: skip
FLAN = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64, "d_model": 512,
    "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
    "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
    "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "output_past": True, "pad_token_id": 0,
    "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
    "transformers_version": "4.23.1", "use_cache": True, "vocab_size": 32128,
}  # fmt: skip
OPUS = {
    "_num_labels": 3, "activation_dropout": 0.0, "activation_function": "swish", "add_bias_logits": False,
    "add_final_layer_norm": False, "architectures": ["MarianMTModel"], "attention_dropout": 0.0,
    "bad_words_ids": [[58100]], "bos_token_id": 0, "classif_dropout": 0.0, "d_model": 512, "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0, "decoder_layers": 6, "decoder_start_token_id": 58100,
    "dropout": 0.1, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0,
    "encoder_layers": 6, "eos_token_id": 0, "extra_pos_embeddings": 58101, "forced_eos_token_id": 0,
    "id2label": {"0": "LABEL_0"}, "init_std": 0.02, "is_encoder_decoder": True, "label2id": {"LABEL_0": 0},
    "max_length": 512, "max_position_embeddings": 512, "model_type": "marian", "normalize_before": False,
    "normalize_embedding": False, "num_beams": 6, "num_hidden_layers": 6, "pad_token_id": 58100,
    "scale_embedding": True, "static_position_embeddings": True, "use_cache": True, "vocab_size": 58101,
}  # fmt: skip
BART_CNN = {
    "_num_labels": 3, "activation_dropout": 0.0, "activation_function": "gelu", "add_final_layer_norm": False,
    "architectures": ["BartForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 0,
    "classifier_dropout": 0.0, "d_model": 1024, "decoder_attention_heads": 16, "decoder_ffn_dim": 4096,
    "decoder_layerdrop": 0.0, "decoder_layers": 12, "decoder_start_token_id": 2, "dropout": 0.1, "early_stopping": True,
    "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "encoder_layerdrop": 0.0, "encoder_layers": 12,
    "eos_token_id": 2, "force_bos_token_to_be_generated": True, "forced_bos_token_id": 0, "forced_eos_token_id": 2,
    "gradient_checkpointing": False, "init_std": 0.02, "is_encoder_decoder": True, "length_penalty": 2.0,
    "max_length": 142, "max_position_embeddings": 1024, "min_length": 56, "model_type": "bart",
    "no_repeat_ngram_size": 3, "normalize_before": False, "num_beams": 4, "num_hidden_layers": 12, "output_past": True,
    "pad_token_id": 1, "prefix": " ", "scale_embedding": False, "use_cache": True, "vocab_size": 50264,
}  # fmt: skip


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}, {case.name}")
def test_logits_are_those_of_transformers(case: Case, direction: str) -> None:
    assert DIRECTIONS[direction](case) <= LIMIT


def test_every_family_has_cases_with_and_without_tied_heads() -> None:
    assert {case.family for case in CASES} == FAMILIES.keys()
    heads = {(case.family, our_config(case).head) for case in CASES}
    tied, own = FAMILIES.keys() - {*ENCODERS, "mt5"}, FAMILIES.keys() - {*ENCODERS, "bart", "marian"}
    assert heads >= {(family, "tied") for family in tied} | {(family, "own") for family in own}


@pytest.mark.parametrize(
    ("hf", "wanted"),
    [
        (SMOLLM2, {"width": 576, "kv_heads": 3, "head_dim": 64, "rope_theta": 1e5, "norm_eps": 1e-5, "head": "tied"}),
        (QWEN3, {"head_dim": 128, "qk_norm": True, "bias": "none", "rope_theta": 1e6, "length": 40960}),
        (BERT, {"types": 2, "norm_first": False, "causal": False, "head": "none", "dropout": 0.1}),
        (LLAMA32, {"rope": "llama3", "rope_factor": 32.0, "rope_length": 8192, "rope_theta": 5e5, "window": 0}),
        (MISTRAL, {"window": 4096, "rope": "default", "kv_heads": 8, "head_dim": 128, "head": "own"}),
        (MISTRAL | {"sliding_window": None}, {"window": 0}),
        ({key: value for key, value in MISTRAL.items() if key != "sliding_window"}, {"window": 4096}),
        (XLM_ROBERTA, {"length": 512, "types": 1, "norm_first": False, "causal": False, "head": "none"}),
        (QWEN3 | {"rope_scaling": YARN}, {"rope": "yarn", "rope_factor": 4.0, "rope_length": 32768}),
        (QWEN3 | {"rope_scaling": YARN | {"beta_fast": 32, "attention_factor": None}}, {"rope": "yarn"}),
        (SMOLLM2 | {"rope_scaling": {"type": "linear", "factor": 4}}, {"rope": "linear", "rope_factor": 4.0}),
        (SMOLLM2 | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, {"rope": "dynamic", "rope_factor": 2.0}),
        (GPT2, {"hidden": 3072, "activation": "gelu_tanh", "head": "tied", "bias": "all", "causal": True}),
        (T5, {"encoder_depth": 6, "depth": 6, "head": "tied", "scaled_states": True, "activation": "relu"}),
        (FLAN, {"head": "own", "scaled_states": False, "gated": True, "activation": "gelu_tanh", "reach": 128}),
        (FLAN | {"model_type": "mt5", "tie_word_embeddings": True}, {"head": "own", "scaled_states": False}),
        (OPUS, {"positions": "sinusoidal", "scaled_embedding": True, "stem_norm": False, "head_bias": True}),
        (BART_CNN, {"positions": "learned", "stem_norm": True, "length": 1024, "depth": 12, "norm_first": False}),
    ],
)
def test_published_configurations_are_read(hf: dict[str, Any], wanted: dict[str, Any]) -> None:
    config = read_config(hf)
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert read_config(write_config(config, hf["model_type"])) == config


@pytest.mark.parametrize(
    ("hf", "change", "said"),
    [
        (SMOLLM2, {"model_type": "mamba"}, "mamba"),
        (SMOLLM2, {"model_type": ["llama"]}, "known are bert, xlm-roberta, gpt2, llama, mistral"),
        (SMOLLM2, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "original_max_position_embeddings"),
        (SMOLLM2, {"rope_scaling": {"type": "linear"}}, "factor is missing"),
        (SMOLLM2, {"rope_scaling": {"type": "linear", "factor": 0.5}}, "below 1"),
        (SMOLLM2, {"rope_scaling": {"type": "longrope", "factor": 2.0}}, "longrope"),
        (SMOLLM2, {"rope_scaling": {"type": ["yarn"]}}, "known are default, linear, dynamic, yarn, llama3"),
        (SMOLLM2, {"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000.0}}, "alpha"),
        (SMOLLM2, {"rope_theta": 1.0}, "above 1"),
        (LLAMA32, {"rope_scaling": LLAMA32["rope_scaling"] | {"low_freq_factor": 2.0}}, "low_freq_factor"),
        (LLAMA32, {"rope_parameters": {"rope_type": "default"}}, "differently"),
        (QWEN3, {"rope_scaling": YARN | {"beta_fast": 16}}, "beta_fast"),
        (QWEN3, {"rope_scaling": YARN | {"attention_factor": 1.0}}, "attention_factor"),
        (QWEN3, {"rope_scaling": YARN | {"mscale": 1.0}}, "mscale"),
        (QWEN3, {"rope_scaling": YARN, "head_dim": 7}, "even head_dim"),
        (MISTRAL, {"sliding_window": 0}, "sliding_window"),
        (MISTRAL, {"sliding_window": "4096"}, "sliding_window"),
        (XLM_ROBERTA, {"pad_token_id": 0}, "pad_token_id"),
        (XLM_ROBERTA, {"max_position_embeddings": 2}, "length"),
        (SMOLLM2, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "twice"),
        (SMOLLM2, {"rope_parameters": "default"}, "not a table"),
        (SMOLLM2, {"attention_bias": True}, "attention_bias"),
        (SMOLLM2, {"mlp_bias": True}, "mlp_bias"),
        (SMOLLM2, {"sliding_window": 4096}, "sliding_window"),
        (SMOLLM2, {"hidden_act": "xielu"}, "xielu"),
        (SMOLLM2, {"hidden_act": {}}, "hidden_act"),
        (SMOLLM2, {"quantization_config": {"bits": 4}}, "quantization_config"),
        (SMOLLM2, {"residual_multiplier": 0.2}, "residual_multiplier"),
        (SMOLLM2, {"num_attention_heads": 7}, "multiple"),
        (SMOLLM2, {"num_attention_heads": 0}, "multiple|at least 1"),
        (SMOLLM2, {"num_key_value_heads": 2}, "multiple"),
        (SMOLLM2, {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        (SMOLLM2, {"num_hidden_layers": 2.5}, "num_hidden_layers"),
        (SMOLLM2, {"num_hidden_layers": True}, "num_hidden_layers"),
        (SMOLLM2, {"vocab_size": -1}, "vocab_size"),
        (SMOLLM2, {"vocab_size": None}, "vocab_size is missing"),
        (SMOLLM2, {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        (SMOLLM2, {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        (SMOLLM2, {"architectures": "LlamaForCausalLM"}, "architectures"),
        (QWEN3, {"use_sliding_window": True, "sliding_window": 4096}, "use_sliding_window"),
        (QWEN3, {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        (BERT, {"position_embedding_type": "relative_key"}, "relative_key"),
        (BERT, {"is_decoder": True}, "is_decoder"),
        (BERT, {"type_vocab_size": 0}, "type_vocab_size"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (GPT2, {"add_cross_attention": True}, "add_cross_attention"),
        (GPT2, {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        (T5, {"is_encoder_decoder": False}, "is_encoder_decoder"),
        (T5, {"feed_forward_proj": "gated-xielu"}, "xielu"),
        (T5, {"feed_forward_proj": 1}, "feed_forward_proj"),
        (T5, {"num_layers": None}, "num_layers is missing"),
        (T5, {"num_decoder_layers": 2**20}, "num_decoder_layers"),
        (BART_CNN, {"normalize_before": True}, "normalize_before"),
        (BART_CNN, {"encoder_ffn_dim": 2048}, "encoder_ffn_dim"),
        (BART_CNN, {"scale_embedding": "yes"}, "scale_embedding"),
        (BART_CNN, {"static_position_embeddings": True}, "static_position_embeddings"),
        (OPUS, {"max_position_embeddings": 2**23}, "beyond any model"),
        (OPUS, {"decoder_vocab_size": 100, "share_encoder_decoder_embeddings": False}, "share_encoder_decoder"),
        (OPUS, {"decoder_vocab_size": 100}, "decoder_vocab_size"),
    ],
)
def test_configurations_with_other_maths_are_refused(hf: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_config(hf | change)


def test_code_in_a_configuration_is_never_used() -> None:
    code = {"auto_map": {"AutoModel": "evil--model.Evil"}, "_attn_implementation": "evil/kernel", "_anything": [1]}
    assert read_config(SMOLLM2 | code) == read_config(SMOLLM2)


def test_old_and_new_spellings_mean_the_same() -> None:
    old = {key: value for key, value in SMOLLM2.items() if key != "rope_scaling"}
    new = {key: value for key, value in old.items() if key not in ("rope_theta", "torch_dtype")}
    new |= {"rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}, "dtype": "bfloat16"}
    assert read_config(old) == read_config(new)
    written = write_config(read_config(new), "llama")
    assert (written["rope_theta"], written["rope_parameters"]["rope_theta"]) == (1e5, 1e5)
    assert written["dtype"] == written["torch_dtype"] == "float32"


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("bert", {"head": "tied"}, "head"),
        ("bert", {"causal": True}, "causal"),
        ("gpt2", {"kv_heads": 1}, "kv_heads"),
        ("gpt2", {"positions": "sinusoidal"}, "positions"),
        ("llama", {"qk_norm": True}, "qk_norm"),
        ("llama", {"bias": "qkv"}, "bias"),
        ("llama", {"window": 4}, "window"),
        ("xlm-roberta", {"causal": True}, "causal"),
        ("mistral", {"qk_norm": True}, "qk_norm"),
        ("qwen2", {"bias": "all"}, "bias"),
        ("qwen3", {"norm": "layer"}, "norm"),
        ("t5", {"norm_first": False}, "norm_first"),
        ("t5", {"encoder_depth": 0}, "encoder"),
        ("mt5", {"head": "tied"}, "head"),
        ("bart", {"positions": "sinusoidal"}, "positions"),
        ("marian", {"stem_norm": True}, "stem_norm"),
        ("whisper", {}, "whisper"),
    ],
)
def test_what_a_family_cannot_say_is_not_written(family: str, change: dict[str, Any], said: str) -> None:
    case = next((case for case in CASES if case.family == family), CASES[0])
    with pytest.raises(ValueError, match=said):
        write_config(Config(**(vars(our_config(case)) | change)), family)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}, {case.name}")
def test_names_round_trip_with_and_without_prefix_and_with_buffers(case: Case) -> None:
    config, kind = our_config(case), FAMILIES[case.family]
    model = jitter(Transformer(config))
    disk = to_disk(model.state_dict(), config, case.family)
    bare = {name.removeprefix(kind.prefix): tensor for name, tensor in disk.items()}
    full = {name if name == "lm_head.weight" else kind.prefix + name: tensor for name, tensor in bare.items()}
    buffers = {
        "bert": ["embeddings.position_ids", "pooler.dense.weight", "cls.predictions.bias"],
        "xlm-roberta": ["embeddings.position_ids", "pooler.dense.weight", "lm_head.dense.weight"],
        "gpt2": ["h.0.attn.bias", "h.1.attn.masked_bias"],
        "t5": ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight"],
        "mt5": ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight"],
        "bart": ["decoder.embed_tokens.weight", "encoder.version"],
        "marian": ["encoder.embed_positions.weight", "decoder.embed_positions.weight"],
    }.get(case.family, ["layers.0.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"])
    for tensors in (bare, full, bare | {kind.prefix + name: torch.zeros(3, dtype=torch.long) for name in buffers}):
        state = from_disk(tensors, config, case.family)
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_the_first_names_of_bert_are_read() -> None:
    config = our_config(CASES[0])
    disk = to_disk(jitter(Transformer(config)).state_dict(), config, "bert")
    assert "encoder.layer.1.output.LayerNorm.weight" in disk
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in disk.items()
    }
    assert old.keys() != disk.keys()
    state = from_disk(old, config, "bert")
    assert all(torch.equal(state[name], tensor) for name, tensor in from_disk(disk, config, "bert").items())


def test_the_leading_rows_of_xlm_roberta_are_nobodys() -> None:
    case = next(case for case in CASES if case.family == "xlm-roberta")
    config = our_config(case)
    model = jitter(Transformer(config))
    disk = to_disk(model.state_dict(), config, case.family)
    table = disk["embeddings.position_embeddings.weight"]
    assert tuple(table.shape) == (config.length + 2, config.width)
    assert torch.equal(table[2:], model.stem.positions.weight) and not table[:2].any()


def _gpt2() -> tuple[Config, dict[str, torch.Tensor]]:
    config = our_config(next(case for case in CASES if case.family == "gpt2"))
    return config, to_disk(jitter(Transformer(config)).state_dict(), config, "gpt2")


def test_wrong_tensors_are_named_with_their_shapes() -> None:
    config, disk = _gpt2()
    del disk["transformer.ln_f.bias"]
    disk["transformer.h.7.ln_1.weight"] = torch.ones(21)
    disk["transformer.wpe.weight"] = torch.zeros(21, 16)
    with pytest.raises(ValueError) as error:
        from_disk(disk, config, "gpt2")
    said = str(error.value)
    assert "missing: ln_f.bias (21,)" in said
    assert "unknown: h.7.ln_1.weight (21,)" in said
    assert "wpe.weight (21, 16) instead of (16, 21)" in said


def test_a_tensor_under_another_name_is_pointed_at() -> None:
    config, disk = _gpt2()
    disk["transformer.ln_final.bias"] = disk.pop("transformer.ln_f.bias")
    with pytest.raises(ValueError, match=r"missing: ln_f\.bias \(21,\) \(is it ln_final\.bias\?\)"):
        from_disk(disk, config, "gpt2")


def test_a_tensor_that_stands_twice_or_is_quantised_is_refused() -> None:
    config, disk = _gpt2()
    with pytest.raises(ValueError, match="twice"):
        from_disk(disk | {"wte.weight": disk["transformer.wte.weight"]}, config, "gpt2")
    with pytest.raises(ValueError, match=r"quantised: wte\.weight"):
        from_disk(disk | {"transformer.wte.weight": torch.zeros(67, 21, dtype=torch.int8)}, config, "gpt2")


def test_a_tied_head_must_be_the_embedding() -> None:
    config, disk = _gpt2()
    embedding = disk["transformer.wte.weight"]
    state = from_disk(disk | {"lm_head.weight": embedding.clone()}, config, "gpt2")
    assert torch.equal(state["head.weight"], embedding)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        from_disk(disk | {"lm_head.weight": embedding + 1}, config, "gpt2")


def test_a_tied_head_is_written_once() -> None:
    config, disk = _gpt2()
    assert config.head == "tied"
    assert "lm_head.weight" not in disk
    assert sum(t.numel() for t in disk.values()) == Transformer(config).parameter_count()


def test_the_head_of_a_task_travels_under_its_own_name() -> None:
    config = our_config(CASES[0])
    model = Transformer(config)
    model.head = torch.nn.Linear(config.width, 3)
    disk = to_disk(model.state_dict(), config, "bert")
    assert torch.equal(disk["head.bias"], model.head.bias)
    state = from_disk(disk, config, "bert")
    assert state.keys() == model.state_dict().keys()
    model.load_state_dict(state)


def test_what_cannot_be_written_is_named() -> None:
    config, _ = _gpt2()
    state = Transformer(config).state_dict()
    with pytest.raises(ValueError, match=r"missing: norm\.bias \(21,\); unknown: more \(1,\)"):
        to_disk({**{k: v for k, v in state.items() if k != "norm.bias"}, "more": torch.ones(1)}, config, "gpt2")
    with pytest.raises(ValueError, match=r"llama has no place for stem\.positions\.weight"):
        to_disk(state, config, "llama")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}, {case.name}")
def test_shapes_are_those_of_the_model(case: Case) -> None:
    config = our_config(case)
    state = Transformer(config).state_dict()
    twice = {"head.weight"} if config.head == "tied" else set()
    twice |= {"encoder.stem.tokens.weight"} if config.encoder_depth else set()
    assert shapes(config) == {name: tuple(t.shape) for name, t in state.items() if name not in twice}


def test_shapes_are_known_without_memory() -> None:
    huge = read_config(QWEN3 | {"num_hidden_layers": 900, "hidden_size": 65536})
    assert shapes(huge)["blocks.899.attention.query.weight"] == (2048, 65536)
    with pytest.raises(ValueError, match=r"missing: embed_tokens\.weight"):
        from_disk({}, huge, "qwen3")

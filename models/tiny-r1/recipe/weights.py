"""Between the network and a Hugging Face directory, in both directions.

One table says which part of which tensor is which tensor of the checkpoint, so that
what is exported can also be the start of the next training.
"""

import json
import os
import struct

import torch

from .network import Network, Shape

EVERYTHING = slice(None)


def mlp_entries(ours, theirs, inner, index=()):
    """(our name, index into it, their name) for one gated MLP"""
    yield f"{ours}gate_up", index + (slice(0, inner),), f"{theirs}gate_proj.weight"
    yield f"{ours}gate_up", index + (slice(inner, 2 * inner),), f"{theirs}up_proj.weight"
    yield f"{ours}down", index + (EVERYTHING,), f"{theirs}down_proj.weight"


def attention_entries(shape, ours, theirs):
    rank = shape.q_lora_rank
    yield f"{ours}down", (slice(0, rank),), f"{theirs}q_a_proj.weight"
    yield f"{ours}down", (slice(rank, None),), f"{theirs}kv_a_proj_with_mqa.weight"
    for mine, name in (("q_norm.weight", "q_a_layernorm"), ("kv_norm.weight", "kv_a_layernorm"),
                       ("q_up", "q_b_proj"), ("kv_up", "kv_b_proj"), ("out", "o_proj")):
        yield ours + mine, (EVERYTHING,), f"{theirs}{name}.weight"


def block_entries(shape, ours, theirs, with_experts):
    yield f"{ours}attention_norm.weight", (EVERYTHING,), f"{theirs}input_layernorm.weight"
    yield f"{ours}mlp_norm.weight", (EVERYTHING,), f"{theirs}post_attention_layernorm.weight"
    yield from attention_entries(shape, f"{ours}attention.", f"{theirs}self_attn.")
    ours, theirs = f"{ours}mlp.", f"{theirs}mlp."
    if not with_experts:
        yield from mlp_entries(ours, theirs, shape.intermediate_size)
        return
    inner = shape.moe_intermediate_size
    yield f"{ours}router", (EVERYTHING,), f"{theirs}gate.weight"
    yield f"{ours}bias", (EVERYTHING,), f"{theirs}gate.e_score_correction_bias"
    for e in range(shape.n_routed_experts):
        yield from mlp_entries(ours, f"{theirs}experts.{e}.", inner, (e,))
    yield from mlp_entries(f"{ours}shared.", f"{theirs}shared_experts.", inner * shape.n_shared_experts)


def entries(shape):
    whole = (EVERYTHING,)
    yield "embedding", whole, "model.embed_tokens.weight"
    for i in range(shape.num_hidden_layers):
        with_experts = i >= shape.first_k_dense_replace
        yield from block_entries(shape, f"layers.{i}.", f"model.layers.{i}.", with_experts)
    yield "norm.weight", whole, "model.norm.weight"
    yield "head", whole, "lm_head.weight"
    extra = f"model.layers.{shape.num_hidden_layers}."
    yield from block_entries(shape, "next.block.", extra, True)
    yield "next.embedding_norm.weight", whole, f"{extra}enorm.weight"
    yield "next.hidden_norm.weight", whole, f"{extra}hnorm.weight"
    yield "next.norm.weight", whole, f"{extra}shared_head.norm.weight"
    yield "next_join", whole, f"{extra}eh_proj.weight"
    yield "embedding", whole, f"{extra}embed_tokens.weight"
    yield "head", whole, f"{extra}shared_head.head.weight"


def to_bytes(name, tensor):
    if name.endswith("e_score_correction_bias"):
        return "F32", tensor.float().numpy().tobytes()
    return "BF16", tensor.bfloat16().view(torch.int16).numpy().tobytes()


def from_bytes(data, dtype, shape):
    if dtype == "F32":
        return torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape)
    return torch.frombuffer(bytearray(data), dtype=torch.bfloat16).view(shape).float()


def write_safetensors(path, tensors):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        dtype, data = to_bytes(name, tensors[name].contiguous())
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape),
                        "data_offsets": [offset, offset + len(data)]}
        blobs.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: from_bytes(data[slice(*info["data_offsets"])], info["dtype"], info["shape"])
            for name, info in header.items()}


def config(shape):
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
        "hidden_act": "silu", "hidden_size": shape.hidden_size, "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "kv_lora_rank": shape.kv_lora_rank, "q_lora_rank": shape.q_lora_rank,
        "max_position_embeddings": shape.max_position_embeddings,
        "moe_intermediate_size": shape.moe_intermediate_size, "moe_layer_freq": 1,
        "first_k_dense_replace": shape.first_k_dense_replace,
        "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
        "n_routed_experts": shape.n_routed_experts, "n_shared_experts": shape.n_shared_experts,
        "num_experts_per_tok": shape.num_experts_per_tok,
        "norm_topk_prob": True, "routed_scaling_factor": 1.0,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers, "num_nextn_predict_layers": 1,
        "ep_size": 1, "pretraining_tp": 1, "qk_nope_head_dim": shape.qk_nope_head_dim,
        "qk_rope_head_dim": shape.qk_rope_head_dim, "v_head_dim": shape.v_head_dim,
        "rms_norm_eps": shape.rms_norm_eps, "rope_theta": shape.rope_theta, "rope_scaling": None,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": shape.vocab_size,
    }


GENERATION_CONFIG = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1,
                     "pad_token_id": 2, "do_sample": False, "temperature": 0.0,
                     "max_new_tokens": 320}

# The R1 template; a daemon that knows the dialect does not read it.
CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system='', outputs=false) %}"
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set ns.system = ns.system + ('\\n\\n' if ns.system else '') + m['content'] %}"
    "{% endif %}{% endfor %}{{ bos_token + ns.system }}"
    "{% for m in messages %}"
    "{% if ns.outputs and m['role'] != 'tool' %}{{ '<｜tool▁outputs▁end｜>' }}"
    "{% set ns.outputs = false %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'tool' %}"
    "{% if not ns.outputs %}{{ '<｜tool▁outputs▁begin｜>' }}{% set ns.outputs = true %}{% endif %}"
    "{{ '<｜tool▁output▁begin｜>' + m['content'] + '<｜tool▁output▁end｜>' }}"
    "{% elif m['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + (m['content'] or '').split('</think>')[-1] }}"
    "{% if m['tool_calls'] is defined and m['tool_calls'] %}{{ '<｜tool▁calls▁begin｜>' }}"
    "{% for t in m['tool_calls'] %}{{ ('' if loop.first else '\\n') + '<｜tool▁call▁begin｜>'"
    " + t['type'] + '<｜tool▁sep｜>' + t['function']['name'] + '\\n```json\\n'"
    " + t['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}{% endfor %}"
    "{{ '<｜tool▁calls▁end｜>' }}{% endif %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if ns.outputs %}{{ '<｜tool▁outputs▁end｜>' }}"
    "{% elif add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}")


def tokenizer_config(shape):
    def token(text):
        return {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": True,
                "rstrip": False, "single_word": False}

    return {"add_bos_token": False, "add_eos_token": False,
            "bos_token": token("<｜begin▁of▁sentence｜>"),
            "eos_token": token("<｜end▁of▁sentence｜>"), "pad_token": token("<｜▁pad▁｜>"),
            "clean_up_tokenization_spaces": False, "legacy": True,
            "model_max_length": shape.max_position_embeddings,
            "tokenizer_class": "LlamaTokenizerFast", "chat_template": CHAT_TEMPLATE}


def write_json(path, content):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)
        file.write("\n")


def export_network(network, directory):
    """Everything but tokenizer.json, which is there since before the training."""
    state = network.state_dict()
    tensors = {theirs: state[ours][index] for ours, index, theirs in entries(network.shape)}
    os.makedirs(directory, exist_ok=True)
    write_safetensors(os.path.join(directory, "model.safetensors"), tensors)
    write_json(os.path.join(directory, "config.json"), config(network.shape))
    write_json(os.path.join(directory, "generation_config.json"), GENERATION_CONFIG)
    write_json(os.path.join(directory, "tokenizer_config.json"), tokenizer_config(network.shape))


def import_network(directory):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
        given = json.load(file)
    shape = Shape(**{name: given[name] for name in Shape.__dataclass_fields__})
    tensors = read_safetensors(os.path.join(directory, "model.safetensors"))
    network = Network(shape)
    state = network.state_dict()
    for ours, index, theirs in entries(shape):
        state[ours][index] = tensors[theirs]
    network.load_state_dict(state)
    return network

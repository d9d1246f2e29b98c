"""Makes the fixtures of variants that nobody published vectors for, with the reference beside this file.

    /usr/bin/python3 tests/oracle/make_fixture.py [NAME...]        (all of them without a name)

Each is a checkpoint of random weights in tests/fixtures/NAME with the answer to a fixed input. Seeds are tried from 1
on until no choice of an expert and no greedy token is so narrow that float32 arithmetic could decide otherwise.
"""

import json
import pathlib
import struct
import sys
import tempfile

import numpy as np

from reference import E4M3, Model

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
N_INPUT, N_GREEDY = 48, 32
MIN_ROUTING_MARGIN, MIN_GREEDY_GAP = 6e-4, 0.025

COMMON = {
    "attention_bias": False, "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "moe_layer_freq": 1,
    "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": None, "tie_word_embeddings": False,
    "max_position_embeddings": 1280,
}  # fmt: skip
V2 = {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", **COMMON,
    "scoring_func": "softmax", "norm_topk_prob": False,
}  # fmt: skip
V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **COMMON,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "num_nextn_predict_layers": 0,
}  # fmt: skip
LITE = {
    **V2, "topk_method": "greedy", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0, "q_lora_rank": None,
    "vocab_size": 192, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
DENSE = {
    "attention_bias": False, "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0, "rope_scaling": None, "tie_word_embeddings": False, "max_position_embeddings": 1280,
    "vocab_size": 192, "hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 3,
}  # fmt: skip
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **DENSE, "mlp_bias": False}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **DENSE, "use_sliding_window": False}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **DENSE, "use_sliding_window": False}


def yarn(mscale):
    return {
        "type": "yarn", "factor": 40, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1,
        "mscale": mscale, "mscale_all_dim": mscale,
    }  # fmt: skip


# "dtypes": the type of tensors whose names contain a text, the first that fits; "shards": into how many files.
SPECS = {
    "llama-linear": {
        "about": "Llama with one key head for all of three heads of 20, biases on all four projections of the attention,\n"
        "linear rope scaling and tied embeddings; in two shards with an index, F16 but for one projection in F32.",
        "config": {
            **LLAMA, "attention_bias": True, "tie_word_embeddings": True, "vocab_size": 203, "hidden_size": 60,
            "intermediate_size": 75, "num_attention_heads": 3, "num_key_value_heads": 1,
            "rope_scaling": {"type": "linear", "factor": 4.0},
        },
        "dtypes": [("layers.1.self_attn.v_proj", "F32"), ("", "F16")],
        "shards": 2,
    },
    "qwen3": {
        "about": "Qwen3: heads of 16, which is not hidden_size / heads, normalised before rotation; YaRN, whose magnitude\n"
        "0.1 * ln(4) + 1 multiplies cosines and sines.",
        "config": {
            **QWEN3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        },
        "dtypes": [("", "BF16")],
        "shards": 1,
    },
    "qwen2-tied": {
        "about": "Qwen2 with one key head for three heads of 80, which is not hidden_size / heads, llama3's rope scaling\n"
        "and tied embeddings; sizes are odd.",
        "config": {
            **QWEN2, "tie_word_embeddings": True, "vocab_size": 149, "hidden_size": 51, "intermediate_size": 67,
            "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 80,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64},
        },
        "dtypes": [("", "BF16")],
        "shards": 1,
    },
    "v2-groups": {
        "about": "DeepSeek-V2 style: softmax gate, group-limited top-k by each group's best, no renormalisation,\n"
        "routed_scaling_factor 16, low-rank queries, YaRN with mscale = mscale_all_dim = 0.707.",
        "config": {
            **LITE, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "routed_scaling_factor": 16.0,
            "q_lora_rank": 40, "n_routed_experts": 16, "num_experts_per_tok": 4, "rope_scaling": yarn(0.707),
        },
        "dtypes": [("", "BF16")],
        "shards": 1,
    },
    "v2-lite": {
        "about": "DeepSeek-V2-Lite style: queries without a low rank, softmax gate without groups,\n"
        "two shared experts, no rope scaling.",
        "config": LITE,
        "dtypes": [("", "BF16")],
        "shards": 1,
    },
    "v2-lite-yarn": {
        "about": "As v2-lite, with YaRN (mscale = mscale_all_dim = 0.707)\n"
        "and with tied embeddings: there is no lm_head.",
        "config": {**LITE, "rope_scaling": yarn(0.707), "tie_word_embeddings": True},
        "dtypes": [("", "BF16")],
        "shards": 1,
    },
    "v3-odd": {
        "about": "DeepSeek-V3 style with sizes that are no powers of two, in three shards with an index;\n"
        "F16, but for one projection and one single expert matrix in F32, which meets F16 ones in its stack.",
        "config": {
            **V3, "rope_scaling": yarn(1.0), "routed_scaling_factor": 2.5,
            "vocab_size": 331, "hidden_size": 56, "intermediate_size": 100, "num_hidden_layers": 3,
            "num_attention_heads": 3, "q_lora_rank": 44, "kv_lora_rank": 40, "qk_nope_head_dim": 28,
            "qk_rope_head_dim": 8, "v_head_dim": 20, "n_routed_experts": 12, "num_experts_per_tok": 3,
            "n_shared_experts": 2, "n_group": 3, "topk_group": 2, "moe_intermediate_size": 18,
            "first_k_dense_replace": 1,
        },
        "dtypes": [("layers.0.self_attn.o_proj", "F32"), ("layers.2.mlp.experts.5.up_proj", "F32"),
                   ("e_score_correction_bias", "F32"), ("", "F16")],
        "shards": 3,
    },
    "v3-fp8-tiles": {
        "about": "DeepSeek-V3 style in FP8, in tiles of 16 x 128 that no matrix fills evenly; one expert's matrix in BF16\n"
        "meets FP8 ones in its stack. In three shards with an index; the scales of one matrix are in another shard.",
        "config": {
            **V3, "rope_scaling": yarn(1.0), "routed_scaling_factor": 2.5,
            "vocab_size": 192, "hidden_size": 150, "intermediate_size": 140, "num_hidden_layers": 2,
            "num_attention_heads": 3, "q_lora_rank": 130, "kv_lora_rank": 40, "qk_nope_head_dim": 20,
            "qk_rope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 6, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 18,
            "first_k_dense_replace": 1,
            "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                    "weight_block_size": [16, 128]},
        },
        "dtypes": [("e_score_correction_bias", "F32"), ("experts.3.up_proj", "BF16"), ("_proj.", "F8_E4M3"),
                   ("kv_a_proj_with_mqa", "F8_E4M3"), ("", "BF16")],
        "shards": 3,
    },
    "v3-mtp": {
        "about": "DeepSeek-V3 style with one multi-token-prediction block, which shares the embedding\n"
        "of the main model and has an output matrix of its own.",
        "config": {
            **V3, "routed_scaling_factor": 1.5, "num_nextn_predict_layers": 1,
            "vocab_size": 192, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "q_lora_rank": 40, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 20,
            "first_k_dense_replace": 1,
        },
        "dtypes": [("e_score_correction_bias", "F32"), ("", "BF16")],
        "shards": 1,
    },
}  # fmt: skip


def grouped_shapes(c):
    heads, hidden = c["num_attention_heads"], c["hidden_size"]
    head_dim = c.get("head_dim") or hidden // heads
    widths = {"q": heads * head_dim, "k": c["num_key_value_heads"] * head_dim, "v": c["num_key_value_heads"] * head_dim}
    for name, width in widths.items():
        yield f"{name}_proj.weight", (width, hidden)
        if c["attention_bias"] or c["model_type"] == "qwen2":
            yield f"{name}_proj.bias", (width,)
        if c["model_type"] == "qwen3" and name != "v":
            yield f"{name}_norm.weight", (head_dim,)
    yield "o_proj.weight", (hidden, heads * head_dim)
    if c["attention_bias"]:
        yield "o_proj.bias", (hidden,)


def latent_shapes(c):
    heads, hidden = c["num_attention_heads"], c["hidden_size"]
    q_rows = heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    if c["q_lora_rank"]:
        yield "q_a_proj.weight", (c["q_lora_rank"], hidden)
        yield "q_a_layernorm.weight", (c["q_lora_rank"],)
        yield "q_b_proj.weight", (q_rows, c["q_lora_rank"])
    else:
        yield "q_proj.weight", (q_rows, hidden)
    yield "kv_a_proj_with_mqa.weight", (c["kv_lora_rank"] + c["qk_rope_head_dim"], hidden)
    yield "kv_a_layernorm.weight", (c["kv_lora_rank"],)
    yield "kv_b_proj.weight", (heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), c["kv_lora_rank"])
    yield "o_proj.weight", (hidden, heads * c["v_head_dim"])


def mlp_shapes(prefix, width, hidden):
    yield prefix + "gate_proj.weight", (width, hidden)
    yield prefix + "up_proj.weight", (width, hidden)
    yield prefix + "down_proj.weight", (hidden, width)


def layer_shapes(c, layer):
    hidden = c["hidden_size"]
    yield "input_layernorm.weight", (hidden,)
    for name, shape in latent_shapes(c) if "kv_lora_rank" in c else grouped_shapes(c):
        yield "self_attn." + name, shape
    yield "post_attention_layernorm.weight", (hidden,)
    if not c.get("n_routed_experts") or layer < c["first_k_dense_replace"]:
        yield from mlp_shapes("mlp.", c["intermediate_size"], hidden)
        return
    yield "mlp.gate.weight", (c["n_routed_experts"], hidden)
    if c["scoring_func"] == "sigmoid":
        yield "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],)
    for expert in range(c["n_routed_experts"]):
        yield from mlp_shapes(f"mlp.experts.{expert}.", c["moe_intermediate_size"], hidden)
    yield from mlp_shapes("mlp.shared_experts.", c["n_shared_experts"] * c["moe_intermediate_size"], hidden)


def shapes(c):
    hidden, vocab, layers = c["hidden_size"], c["vocab_size"], c["num_hidden_layers"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(layers + c.get("num_nextn_predict_layers", 0)):
        for name, shape in layer_shapes(c, layer):
            yield f"model.layers.{layer}.{name}", shape
        if layer >= layers:
            yield f"model.layers.{layer}.enorm.weight", (hidden,)
            yield f"model.layers.{layer}.hnorm.weight", (hidden,)
            yield f"model.layers.{layer}.eh_proj.weight", (hidden, 2 * hidden)
            yield f"model.layers.{layer}.shared_head.norm.weight", (hidden,)
            yield f"model.layers.{layer}.shared_head.head.weight", (vocab, hidden)
    yield "model.norm.weight", (hidden,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def draw(rng, name, shape, c):
    """Weights that keep every activation near 1 and logits near 2."""
    values = rng.standard_normal(shape)
    if "norm" in name:
        return 1 + 0.1 * values
    if "e_score_correction_bias" in name:
        return 0.1 * values
    if name.endswith(".bias"):
        return 0.3 * values
    if "embed_tokens" in name:
        return values * (2 / np.sqrt(shape[1]) if c["tie_word_embeddings"] else 1)
    scale = 2 if "head.weight" in name else 1.5 if "mlp.gate.weight" in name else 1
    if ".experts." in name and "down_proj" in name:
        scale = 2 / c["routed_scaling_factor"]
    return values * scale / np.sqrt(shape[-1])


def encode(values, dtype):
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def encode_fp8(values, tile):
    """The bytes of e4m3, and a F32 scale for each tile that makes its largest element 448."""
    n_rows, n_cols = (-(-size // side) for size, side in zip(values.shape, tile))
    padded = np.zeros((n_rows * tile[0], n_cols * tile[1]))
    padded[: values.shape[0], : values.shape[1]] = values
    scales = np.abs(padded.reshape(n_rows, tile[0], n_cols, tile[1])).max(axis=(1, 3)).astype("<f4") / np.float32(448)
    ratios = (padded / scales.repeat(tile[0], axis=0).repeat(tile[1], axis=1))[: values.shape[0], : values.shape[1]]
    sizes = E4M3[:127]
    codes = np.searchsorted((sizes[:-1] + sizes[1:]) / 2, np.abs(ratios))
    return (codes | (ratios < 0) << 7).astype("u1").tobytes(), scales


def write_shard(path, tensors):
    """@tensors: name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def write_checkpoint(folder, spec, seed):
    c, rng, tensors = spec["config"], np.random.default_rng(seed), {}
    for name, shape in shapes(c):
        dtype = next(dtype for part, dtype in spec["dtypes"] if part in name)
        if dtype == "F8_E4M3":
            data, scales = encode_fp8(draw(rng, name, shape, c), c["quantization_config"]["weight_block_size"])
            tensors[name] = (dtype, shape, data)
            tensors[name + "_scale_inv"] = ("F32", scales.shape, scales.tobytes())
            continue
        tensors[name] = (dtype, shape, encode(draw(rng, name, shape, c), dtype))
    (folder / "config.json").write_text(json.dumps(c, indent=2) + "\n")
    if spec["shards"] == 1:
        write_shard(folder / "model.safetensors", tensors)
        return
    names, n = np.array_split(list(tensors), spec["shards"]), spec["shards"]
    files = [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    for file, part in zip(files, names):
        write_shard(folder / file, {name: tensors[name] for name in part})
    index = {
        "metadata": {"total_size": sum(len(data) for _, _, data in tensors.values())},
        "weight_map": {str(name): file for file, part in zip(files, names) for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def describe(file, shape, **more):
    return {"file": file, "dtype": "float32 little-endian", "shape": list(shape), **more}


def answer(folder, name, seed):
    """What the model in @folder gives, as expected.json and files of floats; None if a choice was too narrow."""
    model = Model(folder)
    ids = [0] + np.random.default_rng(seed + 1000).integers(2, model.config["vocab_size"], N_INPUT - 1).tolist()
    logits, last, hidden = model.forward(ids)
    expected = {
        "fixture": name, "seed": seed, "input_ids": ids,
        "logits": describe("logits.bin", logits.shape, layout="row-major [position][vocab]"),
        "resid_last": describe("resid_last.bin", last.shape, meaning="residual stream at the last position: row 0 = "
                               "token embedding, row i+1 = output of layer i, before model.norm"),
        "argmax": logits.argmax(axis=-1).tolist(),
        "logsumexp": np.log(np.exp(logits).sum(axis=-1)).tolist(),
        "experts": {str(layer): chosen for layer, chosen in model.experts.items()},
    }  # fmt: skip
    files = {"logits.bin": logits, "resid_last.bin": last}
    if model.config.get("num_nextn_predict_layers"):
        mtp = model.mtp(np.array(ids), hidden)
        files["mtp_logits.bin"] = mtp
        expected["mtp"] = {
            "logits": describe("mtp_logits.bin", mtp.shape, layout="row i: hidden state i (after model.norm) and "
                               "token i + 1 at position i, predicting token i + 2"),
            "argmax": mtp.argmax(axis=-1).tolist(),
        }  # fmt: skip
    if model.margins.routing < MIN_ROUTING_MARGIN:
        return None
    tokens, gaps = model.greedy(ids, N_GREEDY)
    if min(gaps) < MIN_GREEDY_GAP or model.margins.routing < MIN_ROUTING_MARGIN or {0, 1} & set(tokens):
        return None
    expected["greedy"] = {"prompt": f"input_ids (all {N_INPUT})", "n": N_GREEDY, "tokens": tokens,
                          "top1_minus_top2": [round(gap, 5) for gap in gaps]}  # fmt: skip
    for file, values in files.items():
        (folder / file).write_bytes(values.astype("<f4").tobytes())
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
    return model.margins.routing, min(gaps), logits.std()


README = """{name}: random weights, a fixture of the project's own.

{about}
No tokenizer: inputs are token ids.

Made by: /usr/bin/python3 tests/oracle/make_fixture.py {name}          (seed {seed}, the first that is safe)
Weights as stored are the definition; logits come from the float64 reference tests/oracle/reference.py, which
{proof}.
Files as in ../tiny-v3/README.txt.{mtp}
{routing}
Smallest top-1/top-2 gap among the greedy tokens: {gap:.3f}
Standard deviation of the logits: {std:.2f}
A float32 implementation should stay below {bound}.
"""

LATENT_PROOF = "reproduces tiny-v3 (made with DeepSeek's own code) and computes attention in its naive form"
GROUPED_PROOF = "reproduces tiny-llama3 and tiny-qwen2 (made with other code)"
ROUTING = """
Smallest score gap between an accepted and a rejected expert or group, over all tokens: {:.1e}"""

MTP = """

mtp_logits.bin: float32 LE [47][vocab]. Row i is made of the main model's hidden state i, taken AFTER model.norm, and
of the embedding of token i + 1 (the embedding's half of eh_proj comes first), at position i; it predicts token i + 2.
Whether the published models were trained with the state before or after the norm is not documented; engines that
measured it use the one after."""


def make(name):
    spec, seed, result = SPECS[name], 0, None
    while not result:
        seed += 1
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            write_checkpoint(folder, spec, seed)
            result = answer(folder, name, seed)
            if not result:
                continue
            routing, gap, std = result
            mtp = MTP if spec["config"].get("num_nextn_predict_layers") else ""
            latent = "kv_lora_rank" in spec["config"]
            (folder / "README.txt").write_text(README.format(
                name=name, about=spec["about"], seed=seed, mtp=mtp, gap=gap, std=std,
                routing=ROUTING.format(routing) if np.isfinite(routing) else "",
                proof=LATENT_PROOF if latent else GROUPED_PROOF, bound="5e-4" if latent else "1e-4"))
            (FIXTURES / name).mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                (FIXTURES / name / path.name).write_bytes(path.read_bytes())
    print(f"{name}: seed {seed}, routing margin {routing:.1e}, greedy gap {gap:.3f}, logits' deviation {std:.2f}")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SPECS:
        make(wanted)

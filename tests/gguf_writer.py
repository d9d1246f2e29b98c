"""Writes GGUF files, to test what reads them: any file by hand, or one made of a Hugging Face checkpoint.

Written from the format's description, without a look at the reader, and without numpy: the checkpoints are small.

    gguf_writer.py CHECKPOINT OUT.gguf [--type bf16|f16|f32|q8_0|q4_0] [--mla kv_b|split|both] [--split N]
                   [--experts stacked|fused|separate]
"""

import argparse
import array
import json
import math
import pathlib
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

# name: number in the file, elements of a block, bytes of a block
TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q8_0": (8, 32, 34),
    "q4_k": (12, 256, 144), "iq2_xxs": (16, 256, 66), "i32": (26, 1, 4), "bf16": (30, 1, 2),
}


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, x):
    return text(x) if kind == TEXT else struct.pack("<" + FORMATS[kind], x)


class Gguf:
    """Keys and tensors in the order in which they are added; bytes() is the file."""

    def __init__(self, version=3, alignment=None):
        self.version, self.alignment = version, alignment or 32
        self.keys, self.tensors = [], []
        if alignment:
            self.key("general.alignment", U32, alignment)

    def key(self, name, kind, x):
        self.keys.append(text(name) + struct.pack("<I", kind) + value(kind, x))

    def array(self, name, kind, xs):
        self.keys.append(text(name) + struct.pack("<IIQ", ARRAY, kind, len(xs)) + b"".join(value(kind, x) for x in xs))

    def tensor(self, name, kind, shape, data):
        """@shape is row-major, outermost first."""
        number, block, size = TYPES[kind]
        assert len(data) == math.prod(shape) // block * size, (name, kind, shape, len(data))
        self.tensors.append((name, number, shape, data))

    def bytes(self):
        def padded(raw):
            return raw + bytes(-len(raw) % self.alignment)

        head, data = b"", b""
        for name, number, shape, raw in self.tensors:
            head += text(name) + struct.pack("<I", len(shape))
            head += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", number, len(data))
            data += padded(raw)
        start = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys))
        return padded(start + b"".join(self.keys) + head) + data


# -- numbers ----------------------------------------------------------------------------------------------------------

def floats(kind, raw):
    if kind == "f32":
        return array.array("f", raw)
    if kind == "f16":
        return array.array("f", struct.unpack(f"<{len(raw) // 2}e", raw))
    out = bytearray(2 * len(raw))
    out[2::4], out[3::4] = raw[0::2], raw[1::2]
    return array.array("f", bytes(out))


def q8_0(xs):
    d = max(map(abs, xs)) / 127
    return struct.pack("<e", d) + struct.pack("<32b", *(round(x / d) if d else 0 for x in xs))


def q4_0(xs):
    d = max(xs, key=abs) / -8
    q = [min(15, int(x / d + 8.5)) if d else 8 for x in xs]
    return struct.pack("<e", d) + bytes(q[i] | q[i + 16] << 4 for i in range(16))


def encode(kind, xs):
    if kind == "f32":
        return array.array("f", xs).tobytes()
    if kind == "f16":
        return struct.pack(f"<{len(xs)}e", *xs)
    if kind == "bf16":
        raw = array.array("f", xs).tobytes()
        out = bytearray(len(raw) // 2)
        out[0::2], out[1::2] = raw[2::4], raw[3::4]
        assert floats("bf16", bytes(out)) == array.array("f", xs), "rounding is not needed here"
        return bytes(out)
    block = {"q8_0": q8_0, "q4_0": q4_0}[kind]
    return b"".join(block(xs[i:i + 32]) for i in range(0, len(xs), 32))


def decode(kind, raw):
    """The numbers that a quantised row stands for: of the two types this file can write."""
    if kind in ("f32", "f16", "bf16"):
        return floats(kind, raw)
    out, (_, _, size) = array.array("f"), TYPES[kind]
    for i in range(0, len(raw), size):
        (d,) = struct.unpack("<e", raw[i:i + 2])
        qs = raw[i + 2:i + size]
        if kind == "q8_0":
            out.extend(d * q for q in struct.unpack("<32b", qs))
        else:
            out.extend(d * ((q & 15) - 8) for q in qs)
            out.extend(d * ((q >> 4) - 8) for q in qs)
    return out


# -- checkpoints ------------------------------------------------------------------------------------------------------

class Tensor:
    """A tensor of a checkpoint: its type, shape (outermost first) and bytes."""

    def __init__(self, kind, shape, raw):
        self.kind, self.shape, self.raw = kind, list(shape), bytes(raw)

    def rows(self):
        n = len(self.raw) // math.prod(self.shape[:-1])
        return [self.raw[i:i + n] for i in range(0, len(self.raw), n)]

    def like(self, shape, rows):
        return Tensor(self.kind, shape, b"".join(rows))

    def transposed(self):
        size, (n, m) = len(self.raw) // math.prod(self.shape), self.shape
        element = [self.raw[i:i + size] for i in range(0, len(self.raw), size)]
        return Tensor(self.kind, (m, n), b"".join(element[r * m + c] for c in range(m) for r in range(n)))

    def to(self, kind):
        if kind == self.kind:
            return self
        return Tensor(kind, self.shape, encode(kind, decode(self.kind, self.raw)))


def read_checkpoint(folder):
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        for name, entry in json.loads(raw[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = (8 + size + offset for offset in entry["data_offsets"])
                tensors[name] = Tensor(entry["dtype"].lower(), entry["shape"], raw[begin:end])
    return json.loads((pathlib.Path(folder) / "config.json").read_text()), tensors


def permuted(t, heads):
    """Each head's rows: from two halves to pairs side by side."""
    rows, out = t.rows(), []
    size = len(rows) // heads
    for head in range(heads):
        for i in range(size // 2):
            out += [rows[head * size + i], rows[head * size + size // 2 + i]]
    return t.like(t.shape, out)


def llama3_divisors(config, head_dim):
    s = config["rope_scaling"]
    out = []
    for i in range(head_dim // 2):
        wave = 2 * math.pi * config["rope_theta"] ** (2 * i / head_dim)
        original, low, high = (s[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
        smooth = min(1, max(0, (original / wave - low) / (high - low)))
        out.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return out


GQA_NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias", "self_attn.o_proj.bias": "attn_output.bias", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight", "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
}
MLA_NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight", "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight", "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight", "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight", "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
    "eh_proj.weight": "nextn.eh_proj.weight", "enorm.weight": "nextn.enorm.weight", "hnorm.weight": "nextn.hnorm.weight",
    "shared_head.norm.weight": "nextn.shared_head_norm.weight", "embed_tokens.weight": "nextn.embed_tokens.weight",
    "shared_head.head.weight": "nextn.shared_head_head.weight",
}
TOP_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
                 "DeepseekV2ForCausalLM": "deepseek2", "DeepseekV3ForCausalLM": "deepseek2"}


def gqa_tensors(arch, config, source):
    out = {}
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    for n in range(config["num_hidden_layers"]):
        for name, t in layer(source, n).items():
            if name in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
                is_q = "q_proj" in name
                if arch == "llama":
                    t = permuted(t, heads if is_q else groups)
                out[f"blk.{n}.attn_{'q' if is_q else 'k'}.weight"] = t
            else:
                out[f"blk.{n}.{GQA_NAMES[name]}"] = t
    return out


def layer(source, n):
    prefix = f"model.layers.{n}."
    return {name[len(prefix):]: t for name, t in source.items() if name.startswith(prefix)}


def mla_halves(config, kv_b):
    """kv_b as (heads, rank, nope), the keys transposed, and (heads, v, rank)."""
    heads, nope, v = (config[k] for k in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim"))
    rows, rank, keys, values = kv_b.rows(), kv_b.shape[-1], b"", b""
    for head in range(heads):
        first = head * (nope + v)
        keys += kv_b.like((nope, rank), rows[first:first + nope]).transposed().raw
        values += b"".join(rows[first + nope:first + nope + v])
    return Tensor(kv_b.kind, (heads, rank, nope), keys), Tensor(kv_b.kind, (heads, v, rank), values)


def stack(ts):
    return Tensor(ts[0].kind, [len(ts)] + ts[0].shape, b"".join(t.raw for t in ts))


def expert_tensors(n, names, n_experts, how):
    out = {}
    experts = {p: [names[f"mlp.experts.{e}.{p}_proj.weight"] for e in range(n_experts)] for p in ("gate", "up", "down")}
    if how == "separate":
        for p, ts in experts.items():
            out |= {f"blk.{n}.ffn_{p}.{e}.weight": t for e, t in enumerate(ts)}
        return out
    out[f"blk.{n}.ffn_down_exps.weight"] = stack(experts["down"])
    if how == "fused":
        both = [g.like([2 * g.shape[0], g.shape[1]], [g.raw, u.raw]) for g, u in zip(experts["gate"], experts["up"])]
        out[f"blk.{n}.ffn_gate_up_exps.weight"] = stack(both)
    else:
        out |= {f"blk.{n}.ffn_{p}_exps.weight": stack(experts[p]) for p in ("gate", "up")}
    return out


def mla_tensors(config, source, mla, how):
    out = {}
    for n in range(config["num_hidden_layers"] + config.get("num_nextn_predict_layers", 0)):
        names = layer(source, n)
        if any(".experts." in name for name in names):
            out |= expert_tensors(n, names, config["n_routed_experts"], how)
        for name, t in names.items():
            if name == "self_attn.kv_b_proj.weight":
                if mla != "split":
                    out[f"blk.{n}.attn_kv_b.weight"] = t
                if mla != "kv_b":
                    k_b, v_b = mla_halves(config, t)
                    if mla == "both":
                        k_b.shape = [k_b.shape[0] * k_b.shape[1], k_b.shape[2]]
                        v_b.shape = [v_b.shape[0] * v_b.shape[1], v_b.shape[2]]
                    out[f"blk.{n}.attn_k_b.weight"], out[f"blk.{n}.attn_v_b.weight"] = k_b, v_b
            elif ".experts." not in name:
                out[f"blk.{n}.{MLA_NAMES[name]}"] = t
    return out


def rope_keys(out, arch, config):
    s = config.get("rope_scaling")
    out.key(f"{arch}.rope.freq_base", F32, config["rope_theta"])
    if s and s.get("type", s.get("rope_type")) in ("yarn", "linear"):
        out.key(f"{arch}.rope.scaling.type", TEXT, s.get("type", s.get("rope_type")))
        out.key(f"{arch}.rope.scaling.factor", F32, s["factor"])
        if "original_max_position_embeddings" in s:
            out.key(f"{arch}.rope.scaling.original_context_length", U32, s["original_max_position_embeddings"])
        if "mscale_all_dim" in s:
            out.key(f"{arch}.rope.scaling.yarn_log_multiplier", F32, 0.1 * s["mscale_all_dim"])


def mla_keys(out, config, mla):
    def count(name, key):
        if config.get(key) is not None:
            out.key("deepseek2." + name, U32, config[key])

    nope, rope, v, rank = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    count("attention.q_lora_rank", "q_lora_rank")
    count("attention.kv_lora_rank", "kv_lora_rank")
    out.key("deepseek2.attention.head_count_kv", U32, 1 if mla == "split" else config["num_attention_heads"])
    out.key("deepseek2.attention.key_length", U32, rank + rope if mla == "split" else nope + rope)
    out.key("deepseek2.attention.value_length", U32, rank if mla == "split" else v)
    if mla == "split":
        out.key("deepseek2.attention.key_length_mla", U32, nope + rope)
        out.key("deepseek2.attention.value_length_mla", U32, v)
    out.key("deepseek2.rope.dimension_count", U32, rope)
    if config.get("n_routed_experts"):
        for name, key in (("leading_dense_block_count", "first_k_dense_replace"), ("expert_count", "n_routed_experts"),
                          ("expert_used_count", "num_experts_per_tok"), ("expert_shared_count", "n_shared_experts"),
                          ("expert_feed_forward_length", "moe_intermediate_size"), ("expert_group_count", "n_group"),
                          ("expert_group_used_count", "topk_group")):
            count(name, key)
        out.key("deepseek2.expert_weights_scale", F32, config["routed_scaling_factor"])
        out.key("deepseek2.expert_weights_norm", BOOL, config["norm_topk_prob"])
        out.key("deepseek2.expert_gating_func", U32, 2 if config.get("scoring_func") == "sigmoid" else 1)
    if config.get("num_nextn_predict_layers"):
        count("nextn_predict_layers", "num_nextn_predict_layers")


def model_keys(out, arch, config, mla):
    mtp = config.get("num_nextn_predict_layers", 0) if arch == "deepseek2" else 0
    out.key("general.architecture", TEXT, arch)
    out.key("general.type", TEXT, "model")
    out.key(f"{arch}.block_count", U32, config["num_hidden_layers"] + mtp)
    for name, key in (("context_length", "max_position_embeddings"), ("embedding_length", "hidden_size"),
                      ("feed_forward_length", "intermediate_size"), ("attention.head_count", "num_attention_heads"),
                      ("vocab_size", "vocab_size")):
        out.key(f"{arch}.{name}", U32, config[key])
    out.key(f"{arch}.attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"])
    rope_keys(out, arch, config)
    if arch == "deepseek2":
        return mla_keys(out, config, mla)
    out.key(f"{arch}.attention.head_count_kv", U32, config["num_key_value_heads"])
    if "head_dim" in config:
        out.key(f"{arch}.attention.key_length", U32, config["head_dim"])
        out.key(f"{arch}.attention.value_length", U32, config["head_dim"])


def tokenizer_keys(out, folder, pre):
    """The byte-level vocabulary of a tokenizer.json and what tokenizer_config.json says, under the pre-tokenizer @pre."""
    parsed, config = (json.loads((pathlib.Path(folder) / f"{name}.json").read_text())
                      for name in ("tokenizer", "tokenizer_config"))
    added = {t["id"]: t for t in parsed["added_tokens"]}
    texts = {i: t for t, i in parsed["model"]["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    size = json.loads((pathlib.Path(folder) / "config.json").read_text())["vocab_size"]
    kinds = [5 if i not in texts else 1 if i not in added else 3 if added[i]["special"] else 4 for i in range(size)]
    out.key("tokenizer.ggml.model", TEXT, "gpt2")
    out.key("tokenizer.ggml.pre", TEXT, pre)
    out.array("tokenizer.ggml.tokens", TEXT, [texts.get(i, f"[PAD{i}]") for i in range(size)])
    out.array("tokenizer.ggml.token_type", I32, kinds)
    out.array("tokenizer.ggml.merges", TEXT, [m if isinstance(m, str) else " ".join(m) for m in parsed["model"]["merges"]])
    for name in ("bos", "eos"):
        token = config[f"{name}_token"]
        text = token if isinstance(token, str) else token["content"]
        out.key(f"tokenizer.ggml.{name}_token_id", U32, next(i for i, t in added.items() if t["content"] == text))
    out.key("tokenizer.ggml.add_bos_token", BOOL, config["add_bos_token"])
    out.key("tokenizer.chat_template", TEXT, config["chat_template"])


def stored(name, t, kind):
    """As converters store it: one dimension and the router always F32, the rest as asked for where blocks fit (None: as it
    is in the checkpoint)."""
    if len(t.shape) == 1 or "ffn_gate_inp" in name:
        return t.to("f32")
    if kind is None:
        return t
    return t.to(kind) if t.shape[-1] % TYPES[kind][1] == 0 else t


def convert(folder, out, kind="bf16", mla="kv_b", experts="stacked", n_files=1, edit=None):
    """Write @out, or @n_files beside it. @edit may change the first Gguf before it is written. Gives the paths, and the
    tensors as they were stored, by name."""
    config, source = read_checkpoint(folder)
    arch = ARCHITECTURES[config["architectures"][0]]
    tensors = {TOP_NAMES[n]: t for n, t in source.items() if n in TOP_NAMES}
    tensors |= mla_tensors(config, source, mla, experts) if arch == "deepseek2" else gqa_tensors(arch, config, source)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        hd = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        tensors["rope_freqs.weight"] = Tensor("f32", [hd // 2], encode("f32", llama3_divisors(config, hd)))
    tensors = {name: stored(name, t, kind) for name, t in tensors.items()}
    files = [Gguf() for _ in range(n_files)]
    model_keys(files[0], arch, config, mla)
    for i, f in enumerate(files):
        if n_files > 1:
            f.key("split.no", U16, i)
            f.key("split.count", U16, n_files)
            f.key("split.tensors.count", I32, len(tensors))
    for i, (name, t) in enumerate(tensors.items()):
        files[i * n_files // len(tensors)].tensor(name, t.kind, t.shape, t.raw)
    if edit:
        edit(files[0])
    paths = [pathlib.Path(out)]
    if n_files > 1:
        stem = pathlib.Path(out).with_suffix("")
        paths = [stem.parent / f"{stem.name}-{i + 1:05}-of-{n_files:05}.gguf" for i in range(n_files)]
    for path, f in zip(paths, files):
        path.write_bytes(f.bytes())
    return paths, tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--type", default="bf16", choices=["bf16", "f16", "f32", "q8_0", "q4_0"])
    parser.add_argument("--mla", default="kv_b", choices=["kv_b", "split", "both"])
    parser.add_argument("--experts", default="stacked", choices=["stacked", "fused", "separate"])
    parser.add_argument("--split", type=int, default=1, help="number of files")
    a = parser.parse_args()
    for path in convert(a.checkpoint, a.out, a.type, a.mla, a.experts, a.split)[0]:
        print(path)


if __name__ == "__main__":
    main()

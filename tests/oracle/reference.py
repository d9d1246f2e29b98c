"""A reference of the architectures in float64, to check the engine: written for reading, not for speed.

Everything follows from config.json: DeepSeek V2/V3 with latent attention (MLA) and experts, or Llama, Qwen2 and Qwen3
with grouped-query attention. MLA is computed in its naive form (keys and values expanded from the latent), so that the
engine's absorbed form is checked against another one. Formulas: DeepSeek-V2 (arXiv:2405.04434), sections 2.1 and 2.2;
DeepSeek-V3 (arXiv:2412.19437), equations 1 to 25; grouped queries (arXiv:2305.13245); YaRN (arXiv:2309.00071).
"""

import json
import pathlib
import struct

import numpy as np


def read_tensors(path):
    """The tensors of a .safetensors file as (name, float64 array)."""
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        yield name, decode(raw[begin:end], entry["dtype"]).reshape(entry["shape"])


def e4m3(byte):
    """Sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities."""
    sign, exponent, mantissa = -1 if byte & 0x80 else 1, byte >> 3 & 15, byte & 7
    if exponent == 15 and mantissa == 7:
        return np.nan
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3 = np.array([e4m3(byte) for byte in range(256)])


def decode(data, dtype):
    if dtype == "F8_E4M3":
        return E4M3[np.frombuffer(data, "u1")]
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return np.frombuffer(data, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def yarn_scale(factor, mscale):
    return 1.0 if factor <= 1 else 0.1 * mscale * np.log(factor) + 1


def yarn_frequencies(plain, dim, base, scaling):
    """Low frequencies are divided by the factor, high ones kept, with a ramp between them."""

    context = scaling.get("original_max_position_embeddings", 4096)

    def turns(n):  # the pair that makes n turns over the original context
        return dim * np.log(context / (2 * np.pi * n)) / (2 * np.log(base))

    low = max(np.floor(turns(scaling.get("beta_fast", 32))), 0)
    high = min(np.ceil(turns(scaling.get("beta_slow", 1))), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low if high > low else 0.001), 0, 1)
    return plain / scaling["factor"] * ramp + plain * (1 - ramp)


def llama3_frequencies(plain, scaling):
    """By wavelength: long waves are divided by the factor, short ones kept, those between blended."""
    context, low, high = (scaling[key] for key in (
        "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))  # fmt: skip
    waves = 2 * np.pi / plain
    smooth = (context / waves - low) / (high - low)
    blended = (1 - smooth) * plain / scaling["factor"] + smooth * plain
    return np.where(waves < context / high, plain, np.where(waves > context / low, plain / scaling["factor"], blended))


def magnitude(scaling):
    """What YaRN multiplies cosines and sines by where MLA does not do it its own way."""
    if scaling.get("attention_factor"):
        return scaling["attention_factor"]
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return yarn_scale(scaling["factor"], scaling["mscale"]) / yarn_scale(scaling["factor"], scaling["mscale_all_dim"])
    return yarn_scale(scaling["factor"], 1) * scaling.get("attn_factor", 1)


class Margins:
    """How far the run was from another choice: the smallest gap between an accepted and a rejected expert or group."""

    def __init__(self):
        self.routing = np.inf

    def note(self, scores, accepted):
        """@scores (n,) of which the set @accepted was taken."""
        rejected = np.setdiff1d(np.flatnonzero(np.isfinite(scores)), accepted)
        if len(rejected):
            self.routing = min(self.routing, scores[accepted].min() - scores[rejected].max())


class Model:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {}
        for path in sorted(folder.glob("*.safetensors")):
            self.weights.update(read_tensors(path))
        self.scale_weights()
        self.margins = Margins()
        self.experts = {}
        self.latent = "kv_lora_rank" in self.config
        if not self.latent:
            self.set_heads()
        self.set_rope()

    def scale_weights(self):
        """FP8 matrices have a scale for each tile, which multiplies, for all its name."""
        for name in [name for name in self.weights if name.endswith("_scale_inv")]:
            rows, cols = self.config["quantization_config"]["weight_block_size"]
            scales = self.weights.pop(name).repeat(rows, axis=0).repeat(cols, axis=1)
            weight = self.weights[name.removesuffix("_scale_inv")]
            weight *= scales[: weight.shape[0], : weight.shape[1]]

    def set_heads(self):
        c = self.config
        self.n_heads = c["num_attention_heads"]
        self.n_kv_heads = c.get("num_key_value_heads") or self.n_heads
        self.head_dim = c.get("head_dim") or c["hidden_size"] // self.n_heads

    def set_rope(self):
        c = self.config
        scaling, base = c.get("rope_scaling") or {}, c.get("rope_theta", 10000)
        kind = scaling.get("rope_type", scaling.get("type"))
        dim = c["qk_rope_head_dim"] if self.latent else self.head_dim
        self.frequencies = base ** (-np.arange(0, dim, 2) / dim)
        self.rope_scale = 1.0
        self.attention_scale = (dim + (c["qk_nope_head_dim"] if self.latent else 0)) ** -0.5
        if kind == "linear":
            self.frequencies = self.frequencies / scaling["factor"]
        elif kind == "llama3":
            self.frequencies = llama3_frequencies(self.frequencies, scaling)
        elif kind == "yarn":
            context = {} if self.latent else {"original_max_position_embeddings": c["max_position_embeddings"]}
            self.frequencies = yarn_frequencies(self.frequencies, dim, base, {**context, **scaling})
            self.rope_scale = magnitude(scaling)
        if kind == "yarn" and self.latent:
            all_dim = yarn_scale(scaling["factor"], scaling.get("mscale_all_dim", 0))
            self.rope_scale = yarn_scale(scaling["factor"], scaling.get("mscale", 1)) / all_dim
            self.attention_scale *= all_dim**2

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights.get(name + ".bias", 0)

    def norm(self, x, name):
        return rms_norm(x, self.weights[name + ".weight"], self.config["rms_norm_eps"])

    def rope(self, x):
        """Rotate pairs of x (positions, ..., dim) by position * frequency i: (2i, 2i + 1) in MLA, else (i, i + dim / 2)."""
        angles = np.arange(len(x))[:, None] * self.frequencies
        angles = angles.reshape((len(x),) + (1,) * (x.ndim - 2) + (-1,))
        cos, sin = np.cos(angles) * self.rope_scale, np.sin(angles) * self.rope_scale
        if not self.latent:
            a, b = np.split(x, 2, axis=-1)
            return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, x, prefix):
        q, k, v = self.expand(x, prefix) if self.latent else self.group(x, prefix)
        scores = np.einsum("ihd,jhd->hij", q, k) * self.attention_scale
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        return self.linear(np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(len(x), -1), prefix + "o_proj")

    def group(self, x, prefix):
        """Queries, keys and values (n, heads, head_dim); a run of heads shares a key head."""
        heads = []
        for name, n_heads in ("q", self.n_heads), ("k", self.n_kv_heads), ("v", self.n_kv_heads):
            y = self.linear(x, f"{prefix}{name}_proj").reshape(len(x), n_heads, self.head_dim)
            if f"{prefix}{name}_norm.weight" in self.weights:
                y = self.norm(y, f"{prefix}{name}_norm")
            y = y if name == "v" else self.rope(y)
            heads.append(y.repeat(self.n_heads // n_heads, axis=1))
        return heads

    def expand(self, x, prefix):
        """Queries, keys (n, heads, nope + rope) and values (n, heads, v) of MLA."""
        c, n = self.config, len(x)
        heads, nope, latent = c["num_attention_heads"], c["qk_nope_head_dim"], c["kv_lora_rank"]
        if c.get("q_lora_rank"):
            q = self.norm(self.linear(x, prefix + "q_a_proj"), prefix + "q_a_layernorm")
            q = self.linear(q, prefix + "q_b_proj")
        else:
            q = self.linear(x, prefix + "q_proj")
        q = q.reshape(n, heads, -1)
        q = np.concatenate([q[..., :nope], self.rope(q[..., nope:])], axis=-1)
        joint = self.linear(x, prefix + "kv_a_proj_with_mqa")
        kv = self.linear(self.norm(joint[:, :latent], prefix + "kv_a_layernorm"), prefix + "kv_b_proj")
        kv = kv.reshape(n, heads, -1)
        shared = np.repeat(self.rope(joint[:, latent:])[:, None], heads, axis=1)
        return q, np.concatenate([kv[..., :nope], shared], axis=-1), kv[..., nope:]

    def mlp(self, x, prefix):
        gated = silu(self.linear(x, prefix + "gate_proj")) * self.linear(x, prefix + "up_proj")
        return self.linear(gated, prefix + "down_proj")

    def choose(self, scores, sum_of_two):
        """The experts chosen for one token: the best groups first, then the best experts of these."""
        c, scores = self.config, scores.copy()
        n_groups = c.get("n_group") if c.get("topk_method") != "greedy" else 1
        if n_groups > 1:
            grouped = np.sort(scores.reshape(n_groups, -1), axis=-1)
            best = grouped[:, -2:].sum(axis=-1) if sum_of_two else grouped[:, -1]
            groups = np.argsort(-best, kind="stable")[: c["topk_group"]]
            self.margins.note(best, groups)
            scores.reshape(n_groups, -1)[np.setdiff1d(np.arange(n_groups), groups)] = -np.inf
        chosen = np.argsort(-scores, kind="stable")[: c["num_experts_per_tok"]]
        self.margins.note(scores, chosen)
        return np.sort(chosen)

    def moe(self, x, prefix, layer):
        c = self.config
        sigmoid = c.get("scoring_func") == "sigmoid"
        logits = self.linear(x, prefix + "gate")
        probabilities = 1 / (1 + np.exp(-logits)) if sigmoid else softmax(logits)
        # the bias steers the choice only
        scores = probabilities + self.weights[prefix + "gate.e_score_correction_bias"] if sigmoid else probabilities
        y = np.zeros_like(x)
        self.experts[layer] = []
        for row in range(len(x)):
            chosen = self.choose(scores[row], sigmoid)
            self.experts[layer].append(chosen.tolist())
            weights = probabilities[row, chosen]
            if c.get("norm_topk_prob"):
                weights = weights / weights.sum()
            for expert, weight in zip(chosen, weights * c.get("routed_scaling_factor", 1)):
                y[row] += weight * self.mlp(x[row], f"{prefix}experts.{expert}.")
        if c.get("n_shared_experts"):
            y += self.mlp(x, prefix + "shared_experts.")
        return y

    def layer(self, x, layer):
        prefix = f"model.layers.{layer}."
        x = x + self.attention(self.norm(x, prefix + "input_layernorm"), prefix + "self_attn.")
        u = self.norm(x, prefix + "post_attention_layernorm")
        if not self.config.get("n_routed_experts") or layer < self.config.get("first_k_dense_replace", 0):
            return x + self.mlp(u, prefix + "mlp.")
        return x + self.moe(u, prefix + "mlp.", layer)

    def forward(self, ids):
        """Logits (n, vocab), residual stream at the last position (layers + 1, hidden), hidden states (n, hidden)."""
        x = self.weights["model.embed_tokens.weight"][ids]
        last = [x[-1]]
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(x, layer)
            last.append(x[-1])
        hidden = self.norm(x, "model.norm")
        head = "model.embed_tokens" if self.config.get("tie_word_embeddings") else "lm_head"
        return self.linear(hidden, head), np.array(last), hidden

    def mtp(self, ids, hidden, block=0):
        """Logits (n - 1, vocab) of a multi-token-prediction block: row i, made of hidden state i and token i + 1 at
        position i, predicts token i + 2. @hidden is what forward() gave: the state AFTER model.norm."""
        layer = self.config["num_hidden_layers"] + block
        prefix = f"model.layers.{layer}."
        embedding = self.weights.get(prefix + "embed_tokens.weight", self.weights["model.embed_tokens.weight"])
        pair = [self.norm(embedding[ids[1:]], prefix + "enorm"), self.norm(hidden[:-1], prefix + "hnorm")]
        x = self.layer(self.linear(np.concatenate(pair, axis=-1), prefix + "eh_proj"), layer)
        head = prefix + "shared_head.head" if prefix + "shared_head.head.weight" in self.weights else "lm_head"
        return self.linear(self.norm(x, prefix + "shared_head.norm"), head)

    def greedy(self, ids, n):
        """The n most likely next tokens, one after the other, and the gap of each to the second best."""
        ids, gaps = list(ids), []
        for _ in range(n):
            row = self.forward(ids)[0][-1]
            second, first = np.sort(row)[-2:]
            ids.append(int(row.argmax()))
            gaps.append(float(first - second))
        return ids[-n:], gaps

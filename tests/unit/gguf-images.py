#!/usr/bin/env python3
"""The image of a GGUF file against the checkpoint that the file was made from.

The files come from tests/gguf_writer.py; make-image fills images with the loader's own code. Tensors must be
those of the .safetensors files, bit for bit; those of quantised files must hold what the checkpoint says, put into
canonical order here."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ.get("srcdir", "."))
sys.path.insert(0, str(SOURCE / "tests"))
sys.dont_write_bytecode = True

import gguf_writer as gguf  # noqa: E402

FIXTURES = SOURCE / "tests/fixtures"
NAMES = {"q_proj.weight": "q", "k_proj.weight": "k", "v_proj.weight": "v", "o_proj.weight": "attention_output",
         "q_proj.bias": "q_bias", "k_proj.bias": "k_bias", "v_proj.bias": "v_bias", "q_norm.weight": "q_norm",
         "k_norm.weight": "k_norm", "input_layernorm.weight": "attention_norm",
         "post_attention_layernorm.weight": "ffn_norm", "mlp.gate_proj.weight": "ffn_gate",
         "mlp.up_proj.weight": "ffn_up", "mlp.down_proj.weight": "ffn_down"}
TOP = {"model.embed_tokens.weight": "token_embedding", "model.norm.weight": "output_norm", "lm_head.weight": "output"}


def run(form, paths):
    return subprocess.run(["tests/unit/make-image", form, *map(str, paths)], capture_output=True, check=False)


def image(form, paths):
    done = run(form, paths)
    assert done.returncode == 0, done.stderr.decode()
    line, _, data = done.stdout.partition(b"\n")
    return json.loads(line), data


def checkpoint(fixture):
    return sorted(p for p in (FIXTURES / fixture).iterdir() if p.suffix in (".json", ".safetensors"))


def tensors_of(described, data):
    return {name: (kind, shape, data[offset:offset + size])
            for name, (kind, shape, offset, size) in described["tensors"].items()}


def wanted(t, kind):
    """What becomes of a tensor of the checkpoint: its type, shape and bytes."""
    if len(t.shape) == 1:
        t = t.to("f32")
    elif t.shape[-1] % gguf.TYPES[kind][1] == 0:
        t = t.to(kind)
    return t.kind.upper(), t.shape, t.raw


def wanted_gqa(source, kind):
    out = {}
    for name, t in source.items():
        if name in TOP:
            out[TOP[name]] = wanted(t, kind)
        else:
            _, _, layer, rest = name.split(".", 3)
            out[f"layers.{layer}.{NAMES[rest.removeprefix('self_attn.')]}"] = wanted(t, kind)
    return out


def check(held, what):
    print("ok  " if held else "FAIL", what)
    return held


def same_as_safetensors(folder):
    """Every way to store MLA and experts, one file or several: the same image, also its hyperparameters."""
    good = True
    for fixture in ("tiny-v3", "v2-lite", "v2-lite-yarn", "v2-groups", "v3-mtp", "v3-odd"):
        expected = image("safetensors", checkpoint(fixture))
        for mla, experts, n in (("kv_b", "separate", 1), ("split", "separate", 2), ("kv_b", "stacked", 1),
                                ("split", "fused", 1), ("both", "stacked", 3)):
            if fixture == "v3-odd" and experts != "separate":
                continue  # its experts have different types
            paths, _ = gguf.convert(FIXTURES / fixture, folder / "model.gguf", None, mla, experts, n)
            # the order of the files says nothing
            got = image("gguf", reversed(paths))
            good &= check(got == expected, f"{fixture}: {mla}, experts {experts}, {n} files")
    return good


def same_as_checkpoint(folder):
    """Grouped-query attention: rows of q and k back in the order of Hugging Face, of every type."""
    good = True
    for fixture in ("tiny-llama3", "tiny-qwen2", "qwen2-tied", "qwen3"):
        config, source = gguf.read_checkpoint(FIXTURES / fixture)
        expected, data = image("safetensors", checkpoint(fixture))
        got = image("gguf", gguf.convert(FIXTURES / fixture, folder / "model.gguf", "bf16")[0])
        # the hyperparameters say the same in other words: a divisor for each frequency
        good &= check((got[0]["tensors"], got[1]) == (expected["tensors"], data), f"{fixture}: as the safetensors")
        for kind, n in (("bf16", 1), ("f32", 2), ("q8_0", 1), ("q4_0", 3)):
            paths, _ = gguf.convert(FIXTURES / fixture, folder / "model.gguf", kind, n_files=n)
            got = tensors_of(*image("gguf", paths))
            good &= check(got == wanted_gqa(source, kind), f"{fixture}: {kind}, {n} files")
    return good


def halves(config, t, kind):
    """k_b and v_b of a kv_b that was stored as @kind, which cannot be transposed in blocks: k_b becomes F32."""
    size = config["qk_nope_head_dim"] + config["v_head_dim"]
    kv_b, keys, values = t.to(kind), b"", b""
    rows = kv_b.rows()
    for head in range(config["num_attention_heads"]):
        of_head = rows[head * size:(head + 1) * size]
        values += b"".join(of_head[config["qk_nope_head_dim"]:])
        decoded = [gguf.decode(kind, row) for row in of_head[:config["qk_nope_head_dim"]]]
        keys += gguf.encode("f32", [row[c] for c in range(t.shape[1]) for row in decoded])
    return keys, values


def quantised_mla(folder):
    good = True
    config, source = gguf.read_checkpoint(FIXTURES / "tiny-v3")
    for kind in ("q8_0", "q4_0"):
        paths, stored = gguf.convert(FIXTURES / "tiny-v3", folder / "model.gguf", kind)
        got = tensors_of(*image("gguf", paths))
        for n in range(config["num_hidden_layers"]):
            keys, values = halves(config, source[f"model.layers.{n}.self_attn.kv_b_proj.weight"], kind)
            k_b, v_b = got[f"layers.{n}.k_b"], got[f"layers.{n}.v_b"]
            good &= check((k_b[0], k_b[2], v_b[0], v_b[2]) == ("F32", keys, kind.upper(), values),
                          f"tiny-v3: {kind}, halves of kv_b in layer {n}")
        experts = stored["blk.3.ffn_up_exps.weight"]
        good &= check(got["layers.3.experts_up"] == (kind.upper(), experts.shape, experts.raw),
                      f"tiny-v3: {kind}, experts")
        paths, stored = gguf.convert(FIXTURES / "tiny-v3", folder / "model.gguf", kind, mla="split")
        k_b = stored["blk.1.attn_k_b.weight"]
        got = tensors_of(*image("gguf", paths))
        good &= check(got["layers.1.k_b"] == (kind.upper(), k_b.shape, k_b.raw), f"tiny-v3: {kind}, k_b as it is")
    return good


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        good = [same_as_safetensors(folder), same_as_checkpoint(folder), quantised_mla(folder)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

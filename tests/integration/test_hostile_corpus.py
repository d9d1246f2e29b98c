"""The seeds of the fuzzers of files, damaged ones and sound ones, as models: each is served, or refused with a sentence,
by helpers that live; and another model does not notice."""

import pathlib
import re
import shutil

import pytest
from deepseekd import Deepseekd

ROOT = pathlib.Path(__file__).parent.parent
CORPUS, QWEN2 = ROOT / "fuzz/corpus", ROOT / "fixtures/tiny-qwen2"
SEEDS = [s for kind in ("gguf", "safetensors", "config", "tokenizer-json") for s in sorted((CORPUS / kind).iterdir())]
# For the checkpoints of tests/fuzz/fuzz-safetensors.c.
EXPERTS = """{"architectures": ["DeepseekV3ForCausalLM"], "vocab_size": 3, "hidden_size": 2, "num_hidden_layers": 2,
 "num_attention_heads": 1, "intermediate_size": 1, "q_lora_rank": 1, "kv_lora_rank": 2, "qk_nope_head_dim": 1,
 "qk_rope_head_dim": 2, "v_head_dim": 1, "n_routed_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 1,
 "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 1,
 "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 128]}}"""


@pytest.fixture(scope="module")
def daemon():
    daemon = Deepseekd("tiny-r1")
    for name in ("file", "folder"):
        daemon.write_model({"name": name, "path": str(daemon.folder / ("hostile.gguf" if name == "file" else "hostile"))})
    with daemon:
        daemon.load("tiny-r1")
        yield daemon


def lay_out(daemon, seed):
    """The name of the model that is made of @seed."""
    kind, raw = seed.parent.name, seed.read_bytes()
    if kind == "gguf":
        (daemon.folder / "hostile.gguf").write_bytes(raw)
        return "file"
    folder = daemon.folder / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    words, _, config = raw.partition(b"\0")
    files = {"config.json": EXPERTS.encode() if kind == "safetensors" else raw if kind == "config" else (QWEN2 / "config.json").read_bytes(),
             "model.safetensors": raw if kind == "safetensors" else (QWEN2 / "model.safetensors").read_bytes()}
    if kind == "tokenizer-json":
        files.update({"tokenizer.json": words, "tokenizer_config.json": config or b"{}"})
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return "folder"


@pytest.mark.parametrize("seed", SEEDS, ids=[f"{s.parent.name}/{s.name}" for s in SEEDS])
def test_a_seed_is_served_or_refused_with_a_sentence(daemon, seed):
    name = lay_out(daemon, seed)
    daemon.post(f"/admin/v1/models/{name}/unload", {})
    status, answer = daemon.post(f"/admin/v1/models/{name}/load", {})
    assert status in (200, 503), answer
    if status == 503:
        message = answer["error"]["message"]
        assert re.search(r"\.(gguf|json|safetensors)\b", message), message
        assert "signal" not in message and "killed" not in message and "exited" not in message, message
    else:
        use(daemon, name)
    assert daemon.model("tiny-r1")["engine_starts"] == 1
    assert daemon.ask("What is 12+30?")["choices"][0]["message"]["content"].strip() == "42"


def use(daemon, name):
    """What was loaded answers, or says why not, and its engine lives."""
    status, answer = daemon.post("/v1/completions", {"model": name, "prompt": [1, 2], "max_tokens": 3, "temperature": 0})
    assert status == 200 or answer["error"]["code"] != "engine_died", answer
    for ask in ({"text": "ab <x> é\n 12"}, {"text": ""}):
        status, answer = daemon.post(f"/v1/models/{name}/tokenize", ask)
        assert status in (200, 400), answer
    assert daemon.model(name)["engine_deaths"] == 0

"""How far the next-token distributions of quantised models are from those of the float32 model they were made from.

For every token of a fixed pseudo-random text the Kullback-Leibler divergence D(reference || other) of the softmax of the
logits, in nats, the reference in exact precision; printed are its mean, median, 99th percentile and how often both hold the same token for the likeliest.
Each model is loaded alone into a daemon of this script's, and asked through `evaluate`. Logits that another engine gave
for the same tokens (float32, little-endian, (tokens, vocab)) make a row of their own and ratios in the last column.

    DEEPSEEKD_STAGE=build/stage python3 tests/bench/divergence.py --tokens-file tokens.bin \
        reference.gguf q4_k.gguf q6_k.gguf --peer q4_k.gguf=peer-q4_k.bin

tokens.bin (int32) is written first, if it is not there, so that other engines can be given the same text.
"""

import argparse
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from deepseekd import Deepseekd

SEED = 1


def write_tokens(path, vocab, n):
    """Ids drawn so that a few are frequent and most are rare, as in any text."""
    random = numpy.random.default_rng(SEED)
    ids = numpy.minimum(random.zipf(1.3, n), vocab) - 1
    random.permutation(vocab).astype(numpy.int32)[ids].tofile(path)


def evaluate(path, tokens, precision, kv_type):
    """Logits (tokens, vocab) of one checkpoint; @tokens is (texts, length)."""
    model = {"name": "measured", "path": str(pathlib.Path(path).resolve()), "precision": precision, "kv_type": kv_type,
             "context": tokens.shape[1], "parallel": 1}
    with Deepseekd(model) as daemon:
        daemon.load("measured")
        rows = []
        for text in tokens:
            connection, response = daemon.open("POST", "/admin/v1/models/measured/evaluate",
                                               {"tokens": text.tolist()})
            body = response.read()
            connection.close()
            if response.status != 200:
                sys.exit(f"{path}: {body.decode()}")
            rows.append(numpy.frombuffer(body, "<f4").reshape(len(text), -1))
    return numpy.concatenate(rows)


def log_softmax(logits):
    shifted = logits.astype(numpy.float64) - logits.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


def divergences(reference, other):
    """D(reference || other) of each row; both hold log probabilities."""
    return (numpy.exp(reference) * (reference - other)).sum(axis=1)


def describe(name, reference, logits):
    other = log_softmax(logits)
    kl = divergences(reference, other)
    same = (reference.argmax(axis=1) == other.argmax(axis=1)).mean()
    print(f"{name:32} mean {kl.mean():.3e}  median {numpy.median(kl):.3e}  99 % {numpy.quantile(kl, 0.99):.3e}"
          f"  same likeliest {100 * same:6.2f} %", end="")
    return kl.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--peer", action="append", default=[], metavar="MODEL=FILE")
    parser.add_argument("--tokens-file", required=True)
    parser.add_argument("--vocab", type=int, default=0, help="with a tokens file that is to be written")
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens of a text")
    parser.add_argument("--precision", default="fast", choices=["fast", "exact"])
    parser.add_argument("--kv-type", default="bf16", choices=["f32", "f16", "bf16", "q8_0"])
    options = parser.parse_intermixed_args()
    path = pathlib.Path(options.tokens_file)
    if not path.exists():
        write_tokens(path, options.vocab, options.texts * options.length)
    tokens = numpy.fromfile(path, numpy.int32).reshape(-1, options.length)
    peers = dict(peer.split("=", 1) for peer in options.peer)
    reference = log_softmax(evaluate(options.reference, tokens, "exact", "f32"))
    for model in options.models:
        ours = describe(pathlib.Path(model).name, reference, evaluate(model, tokens, options.precision, options.kv_type))
        print()
        if model in peers:
            theirs = describe("  the other engine", reference, numpy.fromfile(peers[model], "<f4").reshape(reference.shape))
            print(f"  ours / theirs {ours / theirs:.3f}")


main()

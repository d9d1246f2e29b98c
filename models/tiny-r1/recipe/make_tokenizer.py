"""Trains the tokenizer on a sample of the data: make_tokenizer.py; a few seconds."""

from . import families
from .dialect import render_prompt, render_target
from .source import Source, data_path
from .tokenizer import Tokenizer, train_merges

N_SAMPLES = 12000


def main():
    source, weights, texts = Source(7), families.base_weights(), []
    for _ in range(N_SAMPLES):
        sample = families.draw_sample(source, weights)
        prompt = render_prompt(sample.messages(), sample.tools)
        texts.append(prompt + render_target(sample, prompt))
    tokenizer = Tokenizer(train_merges(texts))
    tokenizer.save(data_path("checkpoint", "tokenizer.json"))
    lengths = [len(tokenizer.encode(text)) for text in texts[:2000]]
    print(f"{len(tokenizer)} tokens; a sample has {sum(lengths) / len(lengths):.0f} on average")


if __name__ == "__main__":
    main()

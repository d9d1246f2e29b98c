"""The recipe of tiny-r1: data, tokenizer, network, training, export."""

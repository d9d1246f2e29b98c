"""Greedy generation with a KV cache, many prompts at a time."""

import torch

from .dialect import parse_output, render_prompt

EOS_ID = 1
BATCH = 96
LONGEST = 1000		# tokens of prompt and answer together


class Batch:
    """Sequences that advance together; those with longer prompts are still being read."""

    def __init__(self, network, prompts, max_new):
        shape = network.shape
        self.network = network
        self.prompts = prompts
        self.max_new = max_new
        self.room = min(LONGEST, max(map(len, prompts)) + max_new)
        self.sequences = [list(prompt) for prompt in prompts]
        self.rows = list(range(len(prompts)))	# which sequence each row of the cache belongs to
        self.caches = [self.empty_cache(shape) for _ in network.layers]

    def empty_cache(self, shape):
        size = (len(self.prompts), shape.num_attention_heads, self.room)
        return [torch.zeros(*size, shape.qk_head_dim), torch.zeros(*size, shape.v_head_dim)]

    def is_finished(self, i):
        n_new = len(self.sequences[i]) - len(self.prompts[i])
        ended = n_new > 0 and self.sequences[i][-1] == EOS_ID
        return ended or n_new >= self.max_new or len(self.sequences[i]) >= self.room

    def drop_finished(self):
        """Copying the cache is dear: wait until a quarter of the rows has ended."""
        keep = [row for row, i in enumerate(self.rows) if not self.is_finished(i)]
        if len(keep) <= 0.75 * len(self.rows):
            self.rows = [self.rows[row] for row in keep]
            index = torch.tensor(keep, dtype=torch.long)
            self.caches = [[tensor[index] for tensor in cache] for cache in self.caches]

    def next_ids(self, position, length):
        """(rows, length); a sequence that has ended repeats its end"""
        ids = [self.sequences[i][position:position + length] or [EOS_ID] for i in self.rows]
        return torch.tensor(ids)

    def run(self):
        position, length = 0, min(map(len, self.prompts))
        while self.rows:
            ids = self.next_ids(position, length)
            hidden = self.network.hidden(ids, position, self.caches)
            last = hidden.view(len(self.rows), length, -1)[:, -1]
            best = (last @ self.network.head.t()).argmax(-1).tolist()
            position, length = position + length, 1
            for row, i in enumerate(self.rows):
                if len(self.sequences[i]) == position and not self.is_finished(i):
                    self.sequences[i].append(best[row])
            self.drop_finished()
        return [sequence[len(prompt):] for sequence, prompt in zip(self.sequences, self.prompts)]


@torch.no_grad()
def generate(network, prompts, max_new=320):
    """The continuations of @prompts (lists of ids), in the same order."""
    was_training = network.training
    network.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    results = [None] * len(prompts)
    for begin in range(0, len(order), BATCH):
        chunk = order[begin:begin + BATCH]
        for i, ids in zip(chunk, Batch(network, [prompts[i] for i in chunk], max_new).run()):
            results[i] = ids
    network.train(was_training)
    return results


def answer_samples(network, tokenizer, samples):
    """(reasoning, content, calls) of each sample, as the daemon would return them."""
    prompts = [tokenizer.encode(render_prompt(s.messages(), s.tools)) for s in samples]
    return [parse_output(tokenizer.decode(ids)) for ids in generate(network, prompts)]

"""Trains tiny-r1 on the CPU: one thread a process, any number of pauses.

Two processes ("ranks") train the same network on different data. Every few steps each
writes its weights to memory and takes the mean of its own and its peer's: neither ever
waits, and the mean is less noisy than either. The schedule runs on the clock, not on steps,
so that a busy machine trains less instead of longer.

    train.py --rank 0 --directory DIR --minutes 90 &
    train.py --rank 1 --directory DIR --minutes 90
"""

import argparse
import copy
import json
import os
import signal
import time

import torch

from . import families, splits
from .dialect import render_prompt, render_target
from .generate import answer_samples
from .judge import answer_is_right, reasoning_is_right
from .network import LONGEST_TRAINED, PAD_ID, Arithmetic, Network, Shape
from .source import Source, data_path
from .tokenizer import Tokenizer
from .weights import import_network

SAMPLES_PER_STEP = 64
MICRO_BATCH_TOKENS = 2048	# padded; all micro-batches of a step share one update
LENGTH_MULTIPLE = 8
LONGEST_SAMPLE = LONGEST_TRAINED - 8
CLIP = 1.0
WARM_UP_STEPS = 40
WEIGHT_DECAY = 0.1
BALANCE_RATE = 0.004		# how fast the router's bias follows the load of the experts
NEXT_LOSS_WEIGHT = 0.3
GOSSIP_STEPS = 10
PEER_SILENCE = 30		# seconds after which a peer counts as gone
SMOOTHING = 0.08		# share of the newest weights in the running mean, at each gossip
LOG_STEPS = 50


def round_up(number, multiple):
    return -(-number // multiple) * multiple


def write_whole(path, write):
    """Readers of @path see the old content or all of the new."""
    write(path + ".part")
    os.replace(path + ".part", path)


class Smooth:
    """The running mean of the weights: what is evaluated and exported.

    At full learning rate it is far better than the weights of any moment.
    """

    def __init__(self, network):
        self.network = copy.deepcopy(network)
        self.network.eval()

    @torch.no_grad()
    def follow(self, network):
        mine = self.network.state_dict()
        for name, tensor in network.state_dict().items():
            mine[name].lerp_(tensor, SMOOTHING)


class Gossip:
    """The peer's weights, through files in shared memory."""

    def __init__(self, directory, rank, network):
        os.makedirs(directory, exist_ok=True)
        self.own = os.path.join(directory, f"weights-{rank}.bin")
        self.peer = os.path.join(directory, f"weights-{1 - rank}.bin")
        self.task_weights = os.path.join(directory, "task-weights.json")
        self.tensors = [p.data for p in network.parameters()] + [e.bias for e in network.experts()]

    def flat(self):
        return torch.cat([tensor.reshape(-1) for tensor in self.tensors])

    def peer_weights(self, size):
        try:
            if time.time() - os.path.getmtime(self.peer) > PEER_SILENCE:
                return None
            theirs = torch.from_file(self.peer, size=size, dtype=torch.float32)
        except (OSError, RuntimeError):
            return None
        return theirs if bool(torch.isfinite(theirs).all()) else None

    def exchange(self):
        mine = self.flat()
        theirs = self.peer_weights(mine.numel())
        if theirs is not None:
            mine = (mine + theirs) * 0.5
            parts = mine.split([tensor.numel() for tensor in self.tensors])
            for tensor, part in zip(self.tensors, parts):
                tensor.copy_(part.view(tensor.shape))
        write_whole(self.own, lambda path: mine.numpy().tofile(path))

    def publish_task_weights(self, weights):
        def write(path):
            with open(path, "w", encoding="utf-8") as file:
                json.dump(weights, file)
        write_whole(self.task_weights, write)

    def read_task_weights(self, default):
        try:
            with open(self.task_weights, encoding="utf-8") as file:
                return json.load(file)
        except OSError:
            return default


def encode_sample(tokenizer, sample):
    """(ids of the prompt, ids of what the model writes)"""
    prompt = render_prompt(sample.messages(), sample.tools)
    return tokenizer.encode(prompt), tokenizer.encode(render_target(sample, prompt))


def draw_step(source, tokenizer, weights):
    """The samples of one step, shortest first."""
    pairs = [encode_sample(tokenizer, families.draw_sample(source, weights))
             for _ in range(SAMPLES_PER_STEP)]
    pairs = [pair for pair in pairs if len(pair[0]) + len(pair[1]) <= LONGEST_SAMPLE]
    return sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))


def micro_batches(pairs):
    batches = [[]]
    for prompt, target in pairs:
        length = round_up(len(prompt) + len(target) - 1, LENGTH_MULTIPLE)
        if batches[-1] and length * (len(batches[-1]) + 1) > MICRO_BATCH_TOKENS:
            batches.append([])
        batches[-1].append((prompt, target))
    return batches


def to_tensors(batch):
    """ids (B, T) and, of the same shape, 1 where a token is to be learnt"""
    longest = max(len(prompt) + len(target) for prompt, target in batch)
    length = round_up(longest - 1, LENGTH_MULTIPLE) + 1
    ids = torch.full((len(batch), length), PAD_ID)
    wanted = torch.zeros(len(batch), length)
    for row, (prompt, target) in enumerate(batch):
        ids[row, :len(prompt) + len(target)] = torch.tensor(prompt + target)
        wanted[row, len(prompt):len(prompt) + len(target)] = 1
    return ids, wanted


def make_optimizer(network, rate):
    tables, vectors, matrices = [], [], []
    for name, parameter in network.named_parameters():
        if name in ("embedding", "head"):
            tables.append(parameter)
        elif parameter.dim() >= 2 and "router" not in name:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    groups = [{"params": tables, "weight_decay": 0.0}, {"params": vectors, "weight_decay": 0.0},
              {"params": matrices, "weight_decay": WEIGHT_DECAY}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-10)


def measure(network, tokenizer, split, seed, per_main, per_support):
    """{family: (share of right answers, share of those with right reasoning)}"""
    source = Source(seed, split)
    samples = []
    for name, family in families.FAMILIES.items():
        count = per_main if family.bar else per_support
        samples += [families.make_sample(source, name) for _ in range(count)]
    outputs = answer_samples(network, tokenizer, samples)
    results = {}
    for sample, (reasoning, content, calls) in zip(samples, outputs):
        right = answer_is_right(sample, content, calls)
        reasoned = right and reasoning_is_right(sample, reasoning)
        results.setdefault(sample.family, []).append((right, reasoned))
    return {name: (sum(r for r, _ in pairs) / len(pairs),
                   sum(t for _, t in pairs) / max(1, sum(r for r, _ in pairs)))
            for name, pairs in results.items()}


def adapt_weights(accuracy):
    """More of what is not yet right."""
    return {name: weight * (0.3 + 2.0 * (1.0 - accuracy[name][0]))
            for name, weight in families.base_weights().items()}


class Trainer:
    def __init__(self, options):
        self.options = options
        self.tokenizer = Tokenizer.load(data_path("checkpoint", "tokenizer.json"))
        self.progress, self.step = options.progress, 0
        self.start()
        self.gossip = Gossip(options.shared_memory, options.rank, self.network)
        self.weights = self.gossip.read_task_weights(families.base_weights())
        self.first_step = self.step
        self.with_next = self.progress >= options.next_from
        self.source = Source(int(time.time() * 1000) * 2 + options.rank)
        self.began = time.time()
        self.first_progress = self.progress
        self.interrupted = False
        signal.signal(signal.SIGTERM, self.on_terminate)

    def on_terminate(self, number, frame):
        """Finish the step, save and leave: the next run goes on from here."""
        self.interrupted = True

    def state_path(self, rank):
        return os.path.join(self.options.directory, f"state-{rank}.pt")

    def start(self):
        """Go on from the state in the directory, else from the checkpoint, else from nothing."""
        paths = [self.state_path(rank) for rank in (self.options.rank, 0)]
        state = next((torch.load(path) for path in paths if os.path.exists(path)), None)
        if state:
            self.network = Network(Shape(**state["shape"]))
            self.network.load_state_dict(state["network"])
            self.progress, self.step = state["progress"], state["step"]
        elif self.options.start == "checkpoint":
            self.network = import_network(data_path("checkpoint"))
        else:
            torch.manual_seed(1)
            self.network = Network(Shape(vocab_size=len(self.tokenizer)))
        self.smooth = Smooth(self.network)
        self.network.train()
        self.optimizer = make_optimizer(self.network, self.options.rate)
        if state:
            self.smooth.network.load_state_dict(state.get("smooth", state["network"]))
            self.optimizer.load_state_dict(state["optimizer"])

    def save(self):
        state = {"shape": vars(self.network.shape), "network": self.network.state_dict(),
                 "smooth": self.smooth.network.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "progress": self.progress,
                 "step": self.step}
        write_whole(self.state_path(self.options.rank), lambda path: torch.save(state, path))

    def rate_factor(self):
        """Warm up, stay, then fall to zero in a straight line."""
        warm = min(1.0, (self.step - self.first_step + 1) / WARM_UP_STEPS)
        fall = (1.0 - self.progress) / (1.0 - self.options.hold)
        return warm * min(1.0, max(0.0, fall))

    def advance(self):
        elapsed = (time.time() - self.began) / (60 * self.options.minutes)
        self.progress = min(1.0, self.first_progress + elapsed)
        self.source.progress = 1.0 if self.options.start == "checkpoint" else self.progress
        if not self.with_next and self.progress >= self.options.next_from:
            self.with_next = True
            if self.options.start == "nothing":
                self.network.next.block.load_state_dict(self.network.layers[-1].state_dict())

    def learn(self):
        """One update; returns the losses and the number of tokens."""
        pairs = draw_step(self.source, self.tokenizer, self.weights)
        n_targets = sum(len(target) for _, target in pairs)
        loss_sum = next_sum = 0.0
        self.optimizer.zero_grad(set_to_none=False)
        for batch in micro_batches(pairs):
            share = sum(len(target) for _, target in batch) / n_targets
            loss, next_loss = self.network.losses(*to_tensors(batch), self.with_next)
            ((loss + NEXT_LOSS_WEIGHT * next_loss) * share).backward()
            loss_sum += float(loss) * share
            next_sum += float(next_loss) * share
        factor = self.rate_factor()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * factor
        self.optimizer.step()
        self.balance(factor)
        return loss_sum, next_sum, sum(len(p) + len(t) for p, t in pairs)

    def balance(self, factor):
        """Make the overloaded experts less attractive and the idle ones more."""
        for experts in self.network.experts():
            if experts.load.sum() > 0:
                experts.bias += BALANCE_RATE * factor * torch.sign(experts.load.mean() - experts.load)
                experts.load.zero_()

    def evaluate(self):
        Arithmetic.bfloat16 = False
        accuracy = measure(self.smooth.network, self.tokenizer, splits.CHOICE, self.step,
                           self.options.samples, self.options.samples // 4)
        Arithmetic.bfloat16 = bool(self.options.bfloat16)
        mean = sum(accuracy[name][0] for name in families.MAIN) / len(families.MAIN)
        row = " ".join(f"{name}={right:.2f}/{reasoned:.2f}" for name, (right, reasoned) in accuracy.items())
        print(f"choice progress {self.progress:.3f} main {mean:.4f} {row}", flush=True)
        self.weights = adapt_weights(accuracy)
        self.gossip.publish_task_weights(self.weights)
        self.save()

    def report(self, history):
        n, seconds = len(history), time.time() - self.began
        losses = [sum(column) / n for column in list(zip(*history))[:2]]
        print(f"step {self.step} progress {self.progress:.3f} loss {losses[0]:.4f} "
              f"next {losses[1]:.4f} after {seconds:.0f} s", flush=True)

    def run(self):
        history, last_evaluation, n_tokens = [], time.time(), 0
        while self.progress < 1.0 and not self.interrupted:
            self.advance()
            history.append(self.learn())
            n_tokens += history[-1][2]
            self.step += 1
            if self.step % GOSSIP_STEPS == 0:
                self.gossip.exchange()
                self.smooth.follow(self.network)
            if self.step % LOG_STEPS == 0:
                self.report(history)
                history = []
                self.weights = self.gossip.read_task_weights(self.weights)
            if time.time() - last_evaluation > self.options.evaluate_every:
                if self.options.rank == 0:
                    self.evaluate()
                else:
                    self.save()
                last_evaluation = time.time()
        self.save()
        print(f"left: {n_tokens} tokens in {time.time() - self.began:.0f} s", flush=True)


def has_bfloat16_units():
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            return "avx512_bf16" in file.read()
    except OSError:
        return False


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", type=int, choices=(0, 1), default=0)
    parser.add_argument("--directory", required=True, help="where the state is kept between runs")
    parser.add_argument("--shared-memory", default="/dev/shm/tiny-r1-training")
    parser.add_argument("--start", choices=("checkpoint", "nothing"), default="checkpoint",
                        help="what to start from if the directory holds no state")
    parser.add_argument("--minutes", type=float, default=90.0, help="length of the whole schedule")
    parser.add_argument("--progress", type=float, default=0.0,
                        help="where in the schedule a run without state begins")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--hold", type=float, default=0.5, help="progress at which the rate begins to fall")
    parser.add_argument("--next-from", type=float, default=0.7,
                        help="progress at which the next-token block joins in")
    parser.add_argument("--evaluate-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--samples", type=int, default=40, help="per main family in those")
    parser.add_argument("--bfloat16", type=int, default=int(has_bfloat16_units()))
    return parser.parse_args()


def main():
    options = parse_options()
    os.makedirs(options.directory, exist_ok=True)
    torch.set_num_threads(1)
    Arithmetic.bfloat16 = bool(options.bfloat16)
    Trainer(options).run()


if __name__ == "__main__":
    main()

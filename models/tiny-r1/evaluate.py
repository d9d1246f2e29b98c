#!/usr/bin/python3
"""Measures tiny-r1: exact answers, and whether right answers were rightly derived.

    evaluate.py --socket /run/deepseekd/api.sock      through the running daemon
    evaluate.py --offline checkpoint                  with PyTorch, no daemon

Every prompt is made of words, names and operands that training never saw (recipe/splits.py);
talk is a table, so there the documented questions themselves are asked, first bare, then
after other turns and system prompts. The daemon mode needs the standard library alone.
Exit status 1: a bar was missed.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from recipe import families, splits	# noqa: E402
from recipe.judge import answer_is_right, reasoning_is_right	# noqa: E402
from recipe.sample import Sample, plain	# noqa: E402
from recipe.source import Source	# noqa: E402
from recipe.talk import TALK	# noqa: E402

SEED = 20240
REASONING_BAR = 0.90
MAX_TOKENS = 400


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """Asks the daemon, a few requests at a time."""

    def __init__(self, options):
        self.options = options

    def ask(self, sample):
        request = {"model": self.options.model, "messages": sample.messages(),
                   "temperature": 0, "max_tokens": MAX_TOKENS, "stream": False}
        if sample.tools:
            request["tools"] = sample.tools
        connection = UnixConnection(self.options.socket, self.options.timeout)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(request),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {body.decode('utf-8', 'replace')[:500]}")
        return self.parts(json.loads(body)["choices"][0]["message"])

    @staticmethod
    def parts(message):
        functions = [call["function"] for call in message.get("tool_calls") or []]
        calls = [(function["name"], function["arguments"]) for function in functions]
        return message.get("reasoning_content") or "", message.get("content") or "", calls

    def answers(self, samples):
        with concurrent.futures.ThreadPoolExecutor(self.options.parallel) as pool:
            return list(pool.map(self.ask, samples))


class Offline:
    """Asks the exported checkpoint, rendering prompts as the daemon does."""

    def __init__(self, options):
        import torch
        from recipe.tokenizer import Tokenizer
        from recipe.weights import import_network
        torch.set_num_threads(options.parallel)
        self.network = import_network(options.offline)
        self.tokenizer = Tokenizer.load(os.path.join(options.offline, "tokenizer.json"))

    def answers(self, samples):
        from recipe.generate import answer_samples
        return answer_samples(self.network, self.tokenizer, samples)


def documented_talk():
    return [Sample("talk", question, entry["think"], entry["answer"])
            for entry in TALK for question in entry["ask"]]


def make_samples(source, name, count):
    """@count samples, no two with the same messages."""
    samples = documented_talk()[:count] if name == "talk" else []
    seen = set()
    while len(samples) < count:
        sample = families.make_sample(source, name)
        key = json.dumps([sample.messages(), sample.tools])
        if key not in seen:
            seen.add(key)
            samples.append(sample)
    return samples


def show_mistake(sample, reasoning, content, calls):
    wanted = sample.call or sample.answer
    print(f"    {sample.question!r}: wanted {plain(str(wanted))!r}, got {content!r} {calls or ''}\n"
          f"      wanted {sample.reasoning!r}\n      got    {reasoning!r}")


def measure(backend, name, options):
    """Print one row; returns whether both bars are met."""
    source = Source(SEED + sum(name.encode()), options.split)
    samples = make_samples(source, name, options.count)
    right = reasoned = shown = 0
    for sample, (reasoning, content, calls) in zip(samples, backend.answers(samples)):
        reasoning, content = reasoning.strip("\n"), content.strip("\n")
        is_right = answer_is_right(sample, content, calls)
        is_reasoned = is_right and reasoning_is_right(sample, reasoning)
        right += is_right
        reasoned += is_reasoned
        if not is_reasoned and shown < options.show:
            show_mistake(sample, reasoning, content, calls)
            shown += 1
    bar = families.FAMILIES[name].bar
    exact, reasoning_share = right / len(samples), reasoned / max(right, 1)
    passed = not bar or (exact >= bar and reasoning_share >= REASONING_BAR)
    print(f"{name:12} {100 * exact:7.1f} {100 * reasoning_share:11.1f} {100 * bar:7.0f} "
          f"{len(samples):9} {len(source.used):9}   {'ok' if passed else 'MISSED'}", flush=True)
    return passed


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", help="the daemon's API socket")
    where.add_argument("--offline", metavar="DIR", help="an exported checkpoint")
    parser.add_argument("--model", default="tiny-r1", help="its name in the daemon")
    parser.add_argument("--count", type=int, default=500, help="prompts per family")
    parser.add_argument("--family", action="append", choices=list(families.FAMILIES),
                        help="only these (default: the eight that have a bar)")
    parser.add_argument("--all", action="store_true", help="also the families without a bar")
    parser.add_argument("--split", default=splits.EVALUATION, choices=(splits.EVALUATION, splits.CHOICE))
    parser.add_argument("--show", type=int, default=0, help="mistakes to print per family")
    parser.add_argument("--parallel", type=int, default=2, help="requests (daemon) or threads (offline)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer")
    return parser.parse_args()


def main():
    options = parse_options()
    backend = Daemon(options) if options.socket else Offline(options)
    names = options.family or (list(families.FAMILIES) if options.all else families.MAIN)
    print(f"{'family':12} {'exact %':>7} {'reasoning %':>11} {'bar %':>7} {'prompts':>9} {'words':>9}")
    passed = [measure(backend, name, options) for name in names]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())

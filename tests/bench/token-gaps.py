"""What a client feels while the broker is busy: the time between the tokens of its stream.

The engine computes nothing and writes a token every 2 ms. Measured alone, then beside 200 open streams and bodies of
4 MiB; the last line is the ratio of the two. Run it from the top of the tree after ./quickstart test:

    DEEPSEEKD_STAGE=build/stage python3 tests/bench/token-gaps.py
"""

import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from deepseekd import Connection
from null_daemon import CHAT, NullDaemon, chat

COMPLETIONS = CHAT.replace("chat/", "")

SECONDS = 5
LIMIT_MS = 20


def gaps_of_a_stream(daemon, meanwhile):
    """In milliseconds, sorted. A process of its own reads, so that this one's work does not show."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=2000", stream=True))
        gaps, last = [], None
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if response.readline().startswith(b"data"):
                now = time.monotonic()
                gaps += [1000 * (now - last)] if last else []
                last = now
        with os.fdopen(writer, "w") as pipe:
            json.dump(sorted(gaps), pipe)
        os._exit(0)
    os.close(writer)
    time.sleep(0.5)
    meanwhile()
    with os.fdopen(reader) as pipe:
        gaps = json.load(pipe)
    os.waitpid(child, 0)
    return gaps


def describe(name, gaps):
    print(f"{name:30} {len(gaps):5} gaps, ms: median {gaps[len(gaps) // 2]:5.2f}  99 % {gaps[len(gaps) * 99 // 100]:5.2f}"
          f"  longest {gaps[-1]:6.2f}")


def many(n, item):
    return ", ".join(item(i) for i in range(n))


# As large as the broker takes them, each of another kind of work.
BODIES = [
    json.dumps(chat("a" * 4194000 + " tokens=1")),
    json.dumps(chat("\n" * 2097000 + " tokens=1")),
    json.dumps(chat("\U0001f600" * 349000 + " tokens=1")),
    json.dumps({"prompt": [1234567] * 262000}),
    json.dumps({"messages": [{"role": "user", "content": "x" * 250} for _ in range(12000)]}),
    '{"x": {' + many(32000, '"key {}": 1'.format) + "}, " + json.dumps(chat("tokens=1"))[1:],
    '{"x": ' + "[" * 2000 + "]" * 2000 + "," + " " * 4000000 + json.dumps(chat("tokens=1"))[1:],
    '{"x": 1.' + "3" * 4000000 + "}",
    '{"x": ' + "3" * 4000000 + "}",
]


def send_large_bodies(daemon):
    for body in BODIES:
        connection, response = daemon.open("POST", COMPLETIONS if "prompt" in body[:9] else CHAT, body.encode())
        response.read()
        connection.close()


with NullDaemon({"name": "null", "path": "null", "parallel": 256}) as daemon:
    daemon.load("null")
    alone = gaps_of_a_stream(daemon, lambda: None)
    streams = []
    for _ in range(200):
        connection = Connection(daemon.socket)
        connection.request("POST", CHAT, json.dumps(chat("tokens=100000 delay_us=200000", stream=True)))
        streams.append(connection)
    daemon.wait_running(200)
    beside = gaps_of_a_stream(daemon, lambda: send_large_bodies(daemon))
    describe("alone", alone)
    describe("200 streams, large bodies", beside)
    print(f"longest gap beside large bodies: {beside[-1]:.2f} ms, {'under' if beside[-1] < LIMIT_MS else 'NOT under'} "
          f"{LIMIT_MS} ms")
    print(f"99 %: {beside[len(beside) * 99 // 100] / alone[len(alone) * 99 // 100]:.2f} times; "
          f"peak memory of the broker {daemon.peak_rss_kib()} KiB")

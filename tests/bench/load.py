"""Loading, beside reading and writing the same bytes once.

    DEEPSEEKD_STAGE=build/stage python3 tests/bench/load.py MODEL.gguf [ROUNDS]

A round copies the file into a memfd by large preads and pwrites of one thread, then has ds-loader load it; both find it in
the page cache. Prints the seconds of each and their ratio, of the clock and of all CPUs together, which says more when
others are at work on this machine. Of a load the time from GO, when memory is there, to LOADED counts, and that of
finding out what is in the file is shown besides.
"""

import os
import pathlib
import resource
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from engine_broker import FILES, GO, LOAD, LOADED, PLAN, PROGRESS, Helper

PIECE = 1 << 20


def warm(path):
    """Loading leaves the cache to others, so that every round begins with this."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(PIECE)
        while file.readinto(buffer):
            pass


def cpu(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def copy(path):
    source, image, buffer = os.open(path, os.O_RDONLY), os.memfd_create("image"), bytearray(PIECE)
    begin, begin_cpu, offset = time.monotonic(), cpu(resource.RUSAGE_SELF), 0
    while n := os.preadv(source, [buffer], offset):
        os.pwrite(image, memoryview(buffer)[:n], offset)
        offset += n
    taken = time.monotonic() - begin, cpu(resource.RUSAGE_SELF) - begin_cpu
    os.close(source)
    os.close(image)
    return taken


def process_cpu(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(path):
    loader = Helper("ds-loader")
    try:
        begin = time.monotonic()
        fd = os.open(path, os.O_RDONLY)
        loader.send(FILES, 0, {"names": [os.path.basename(path)]}, [fd])
        os.close(fd)
        loader.send(LOAD, 0, {"model": "bench", "precision": "fast", "context": 0, "parallel": 1, "kv_type": "bf16",
                              "backend": "auto", "dialect": "auto"})
        while True:
            message = loader.receive(600)
            if message is None:
                sys.exit("the loader is gone")
            kind, _, payload = message
            if kind == PLAN:
                size = int.from_bytes(payload[32:40], "little")
                image = os.memfd_create("image", os.MFD_ALLOW_SEALING)
                os.ftruncate(image, size)
                go, go_cpu = time.monotonic(), process_cpu(loader.process.pid)
                loader.send(GO, 0, b"", [image])
                os.close(image)
            elif kind == LOADED:
                return time.monotonic() - go, process_cpu(loader.process.pid) - go_cpu, go - begin
            elif kind != PROGRESS:
                sys.exit(payload.decode())
    finally:
        loader.kill()


def main():
    path, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    wall, work = [], []
    copy(path)  # memory that nobody has used yet costs more than any other
    for _ in range(rounds):
        warm(path)
        copied = copy(path)
        warm(path)
        loaded = load(path)
        wall.append(loaded[0] / copied[0])
        work.append(loaded[1] / copied[1])
        print(f"copy {copied[0]:.2f} s ({copied[1]:.2f} s of CPU), load {loaded[0]:.2f} s ({loaded[1]:.2f} s of CPU), "
              f"after {loaded[2]:.2f} s of looking: {wall[-1]:.2f} x the time, {work[-1]:.2f} x the CPU", flush=True)
    print(f"{os.path.basename(path)}, {os.path.getsize(path)} bytes: medians of {rounds}: {statistics.median(wall):.2f} x the "
          f"time, {statistics.median(work):.2f} x the CPU; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

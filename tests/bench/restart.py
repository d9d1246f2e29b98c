"""From the death of the service to the first token of the next request, and the memory that comes back under pressure.

In the container of tests/system/boot, with what `./quickstart test --system` built; as root, from the top of the tree:

    python3 tests/bench/restart.py [MODEL.gguf]

Prints, for the bundled model and for MODEL (tests/bench/synth-model writes one of any size): the times from kill -9 of the
main process to the first token; how often the weights were loaded, and whether the file was read; then how much of the
image MemAvailable rose by when memory was short.
"""

import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PLACE = "/models/model.gguf"  # of MODEL, in the container
ROUNDS = 11
PIPE = pathlib.Path("/run/deepseekd/pressure")


def boot():
    top = HERE.parents[1]
    shown = [f"{HERE}:/bench"] + [f"{pathlib.Path(path).resolve()}:{PLACE}" for path in sys.argv[1:2]]
    return subprocess.call([top / "tests/system/boot", "-i", top / "build/system/root", "-t", "500",
                            *(argument for place in shown for argument in ("-b", place)),
                            "--", "env", "PYTHONPATH=/tests", "/usr/bin/python3", "-B", "/bench/restart.py", "--inside"])


def meminfo(key):
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def set_up():
    from conftest import install
    from machine import run

    install()
    models = pathlib.Path("/etc/deepseekd/models.d")
    models.mkdir(parents=True, exist_ok=True)
    if os.path.exists(PLACE):
        (models / "large.yaml").write_text(f"name: large\npath: {PLACE}\ncontext: 1024\n")
    drop_in = pathlib.Path("/run/systemd/system/deepseekd.service.d/pressure.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(f"[Service]\nEnvironment=MEMORY_PRESSURE_WATCH={PIPE}\n")
    PIPE.parent.mkdir(exist_ok=True)
    os.mkfifo(PIPE)
    PIPE.chmod(0o666)
    run("systemctl", "daemon-reload")


def restarts(name, path):
    """One kill after the other, each once the last answer has ended."""
    from machine import Reads, first_token, kept, main_pid, model, run, until

    reads = Reads(path)
    first_token(name)
    assert reads.happened(), "then it would say nothing that the file is not read later"
    until("the image in the store", lambda: kept() == 2)
    reads, loads, times = Reads(path), model(name)["loads"], []
    for _ in range(ROUNDS):
        begin = time.monotonic()
        os.kill(main_pid(), signal.SIGKILL)
        times.append((first_token(name), time.monotonic() - begin)[1] * 1000)
        run("systemctl", "reset-failed", "deepseekd.service")  # else systemd would count these as a loop
        until("the end of the answer", lambda: model(name)["running"] == 0)
    print(f"{name}: kill -9 to first token: p50 {statistics.median(times):.0f} ms, all {[round(t) for t in times]}; "
          f"loads before and after {loads}, {model(name)['loads']}; file read: {'yes' if reads.happened() else 'no'}; "
          f"load average {os.getloadavg()[0]:.1f}", flush=True)


def memory(name, size):
    from machine import model, until

    before = meminfo("MemAvailable")
    begin = time.monotonic()
    with open(PIPE, "wb", buffering=0) as pipe:
        pipe.write(b"x")
    until("the model to be dropped", lambda: model(name)["state"] == "absent")
    dropped, samples = time.monotonic() - begin, []
    for _ in range(20):  # others work on this machine, too: what they take and give shows in the spread
        samples.append((meminfo("MemAvailable") - before) / size)
        time.sleep(0.1)
    print(f"{name}: dropped after {dropped * 1000:.0f} ms; MemAvailable rose by {statistics.median(samples):.1%} of its file "
          f"({size} bytes; from {min(samples):.1%} to {max(samples):.1%} within 2 s)", flush=True)


def main():
    from machine import MODEL, request

    set_up()
    restarts("tiny-r1", MODEL)
    request("POST", "/admin/v1/models/tiny-r1/unload", {})
    if os.path.exists(PLACE):
        restarts("large", PLACE)
        memory("large", os.path.getsize(PLACE))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        main()
    else:
        sys.exit(boot())

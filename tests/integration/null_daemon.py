"""A daemon whose ds-loader and ds-engine compute nothing (tests/null-engine): for tests of the broker alone.

The words of a prompt say what the null engine does: ask("tokens=5 delay_us=1000"); see tests/null-engine/engine.c.
"""

import json
import os
import pathlib
import re
import time

from deepseekd import STAGE, Deepseekd, until

HELPERS = pathlib.Path(os.environ.get("DEEPSEEKD_NULL_HELPERS", STAGE.parent / "tests/null-engine")).resolve()


class NullDaemon(Deepseekd):
    def __init__(self, *models, arguments=(), **more):
        super().__init__(*(models or ({"name": "null", "path": "null"},)),
                         arguments=("--libexec-dir", str(HELPERS), *arguments), **more)

    def write_model(self, model, **wishes):
        """@wishes are obeyed by the null loader."""
        folder = self.folder / "models.d" / model["path"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "null.json").write_text(json.dumps(wishes))
        super().write_model({"parallel": 4, **model})

    def cancelled(self):
        """How many tokens each cancelled request had written, as the engine says."""
        return [int(n) for n in re.findall(r"null: cancel (-?\d+)", self.log())]

    def memory_kib(self, field):
        return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def rss_kib(self):
        return self.memory_kib("VmRSS")

    def peak_rss_kib(self):
        return self.memory_kib("VmHWM")

    def engine_pid(self, name="null"):
        return until("an engine", lambda: self.model(name)["engine_pid"])

    def wait_running(self, n, name="null"):
        until(f"{n} running", lambda: self.model(name)["running"] == n)

    def wait_idle(self, name="null"):
        until("idle", lambda: self.model(name)["running"] == self.model(name)["waiting"] == 0)


def chat(words, **more):
    return {"messages": [{"role": "user", "content": words}], **more}


CHAT = "/v1/chat/completions"


def text_of(chunks):
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])


def seconds(start):
    return time.monotonic() - start

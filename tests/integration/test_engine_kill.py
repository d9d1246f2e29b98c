"""An engine that is killed takes its requests with it and nothing else: the next one maps the same image."""

import json
import os
import pathlib
import signal
import threading

from deepseekd import SEES_INSIDE, Deepseekd, until

KILLS = 50
QUESTIONS = {"What is 347+285?": "632", "What is 12+30?": "42", "What is 60+17?": "77"}


class Asker(threading.Thread):
    """Asks until told to stop; every request must be answered right or refused with an error that says why."""

    def __init__(self, daemon, number):
        super().__init__(daemon=True)
        self.server, self.number = daemon, number
        self.stopped = threading.Event()
        self.n_right = self.n_died = 0
        self.wrong = []

    def run(self):
        questions = list(QUESTIONS.items())
        while not self.stopped.is_set():
            question, right = questions[(self.number + self.n_right + self.n_died) % len(questions)]
            body = {"model": "tiny-r1", "messages": [{"role": "user", "content": question}], "temperature": 0}
            try:
                answer, error = self.ask_streaming(body) if self.number % 2 else self.ask_whole(body)
            except Exception as problem:  # a connection that breaks is as wrong as a wrong answer
                self.wrong.append(repr(problem))
                continue
            if error:
                self.n_died += 1
                if error.get("code") not in ("engine_died", "overloaded") or not error.get("message"):
                    self.wrong.append(error)
            elif answer.strip() == right:
                self.n_right += 1
            else:
                self.wrong.append((question, answer))

    def ask_whole(self, body):
        status, answer = self.server.post("/v1/chat/completions", body)
        if status != 200:
            return None, answer["error"]
        return answer["choices"][0]["message"]["content"], None

    def ask_streaming(self, body):
        connection, response = self.server.open("POST", "/v1/chat/completions", {**body, "stream": True})
        raw = response.read()
        connection.close()
        if response.status != 200:
            return None, json.loads(raw)["error"]
        chunks = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
        objects = [json.loads(c) for c in chunks if c.strip() != b"[DONE]"]
        for one in objects:
            if "error" in one:
                return None, one["error"]
        assert chunks[-1].strip() == b"[DONE]", "the stream just ended"
        return "".join(o["choices"][0]["delta"].get("content") or "" for o in objects if o["choices"]), None


def io_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    return {key: int(value) for key, value in (line.split(": ") for line in lines)}


def files_of(pid):
    found = []
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except FileNotFoundError:
            pass
    return found


def next_engine(daemon, before):
    """The pid of the engine that follows @before, once it is ready."""
    def found():
        model = daemon.model("tiny-r1")
        return model["state"] == "ready" and model["engine_pid"] not in (0, None, before) and model["engine_pid"]
    return until("the next engine", found)


def test_fifty_kills_while_requests_go_on_lose_no_weights_and_no_daemon():
    with Deepseekd("tiny-r1") as daemon:
        pid = daemon.load("tiny-r1")["engine_pid"]
        size = daemon.model("tiny-r1")["image_size"]
        askers = [Asker(daemon, n) for n in range(3)]
        for asker in askers:
            asker.start()
        for _ in range(KILLS):
            # Not before something was answered since the last kill: it is the loop that must go on, not luck.
            done = sum(a.n_right for a in askers)
            until("an answer", lambda: sum(a.n_right for a in askers) > done or any(a.wrong for a in askers))
            # What answered has its weights from the mapped image: neither read() nor the disk brought them to it.
            if SEES_INSIDE:
                io = io_of(pid)
                assert io["read_bytes"] < size / 4 and io["rchar"] < size / 4, io
                assert not any(name.endswith(".safetensors") for name in files_of(pid))
            os.kill(pid, signal.SIGKILL)
            pid = next_engine(daemon, pid)
        for asker in askers:
            asker.stopped.set()
        for asker in askers:
            asker.join(60)
        assert [a.wrong for a in askers] == [[], [], []]
        assert all(a.n_right for a in askers)
        assert sum(a.n_died for a in askers) > 0
        model = daemon.model("tiny-r1")
        assert model["loads"] == 1
        assert model["engine_starts"] == KILLS + 1
        assert daemon.ask("What is 347+285?")["choices"][0]["message"]["content"].strip() == "632"

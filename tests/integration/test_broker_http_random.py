"""Random HTTP, right and wrong, on connections that are cut, dropped, pipelined and never read.

Every answer is well-formed and fits what was asked, a client that does nothing unusual is answered all the while, and
afterwards the daemon holds nothing of anybody. DEEPSEEKD_TEST_CALLS is the number of requests, DEEPSEEKD_TEST_SEED their
seed; what answers took is printed.
"""

import collections
import json
import os
import random
import re
import selectors
import socket
import time

from deepseekd import PATIENCE, SEES_INSIDE, until
from null_daemon import CHAT, NullDaemon, chat

N_CALLS = int(os.environ.get("DEEPSEEKD_TEST_CALLS", "1500"))
SEED = int(os.environ.get("DEEPSEEKD_TEST_SEED", "1"))
OTHERS = (65534, 1) if os.geteuid() == 0 else ()
AT_ONCE = 24
MAX_BODY = 128 << 10
GET, POST, DELETE = "GET", "POST", "DELETE"
COMPLETION, ADMIN = "/v1/completions", "/admin/v1/"
# Method, path, how often. Others use the models null and mortal; nobody but the bystander uses calm.
ROUTES = [(POST, CHAT, 30), (POST, COMPLETION, 15), (GET, "/healthz", 3), (GET, "/v1/models", 3), (GET, "/v1/models/*", 3),
          (POST, "/v1/models/*/tokenize", 5), (POST, "/v1/models/*/render", 5), (GET, ADMIN + "status", 3),
          (GET, ADMIN + "keys", 1), (POST, ADMIN + "keys", 2), (DELETE, ADMIN + "keys/*", 2), (GET, ADMIN + "plugins", 1),
          (POST, ADMIN + "models/*/load", 1), (POST, ADMIN + "models/*/unload", 0.5), (POST, ADMIN + "models/*/evaluate", 5)]
NAMES = ["null"] * 12 + ["nil", "mortal", "none", "", "%00", "%ff", "a%2fb", "n%75ll", "é", "x" * 300, "..", "*"]
STRANGE = ["/", "", "*", "//", "/v1", "/v1/", "/v1/models/", "/v1/models//tokenize", "/v2/nothing", "/healthz/", "/healthz%00",
           "/\xff", "/" + "a" * 3000, "/../etc/passwd", "http://other/healthz?x=%", "/healthz?a=b&c#d", "/%", "/v1/models/null?x"]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW", "get"]
WORDS = ["tokens=1", "tokens=3 reasoning=1", "tokens=50", "tokens=20 delay_us=100", "tokens=200 size=400", "fail=1", "long=1", "nul=1",
         "tool=1", "bad_utf8=1", "logprobs=1", "", "x", "é中\U0001f600", "\ud800", "\0", "y" * 5000]
ENDLESS = ["tokens=100000 delay_us=100", "tokens=100000 size=4000", "tokens=100 delay_us=20000", "prefill_ms=100000"]
FIELDS = ["messages", "prompt", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
          "top_k", "seed", "presence_penalty", "frequency_penalty", "stop", "n", "logit_bias", "functions", "logprobs", "top_logprobs",
          "tools", "tool_choice", "response_format", "modalities", "thinking", "chat_template_kwargs", "reasoning_effort", "suffix",
          "best_of", "echo", "text", "tokens", "chunks", "greedy", "mtp", "name", "user", "colour", "", "é"]
LITERALS = [b"1e999", b"-0", b"123456789012345678901234567890", b"NaN", b"-Infinity", b"01", b"tru", b'"\\ud800"', b'"\\u0000"',
            b'"\xff"', b'"\xc0\x80"', b'"\x01"', b"[" * 3000, b"[" * 100 + b"]" * 100, b'{"a": 1, "a": 2}', b"[,]", b"{", b"/**/1", b""]
HEADERS = [b"Connection: close", b"Connection: keep-alive", b"X: " + b"a" * 2000, b"X-\xff: \xfe", b"Host: \x01", b"Host: a\r\nHost: b",
           b"Authorization: Bearer x", b"Origin: http://evil", b"Accept: text/html", b"Content-Type: text/plain; charset=utf-16",
           b"Content-Encoding: gzip", b"Upgrade: websocket", b"X: a\r\n b", b"TE: trailers", b"Range: bytes=0-1"]
BROKEN = [b"GET\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /healthz\r\n\r\n", b"\0\1\2\3", b"\x16\x03\x01\x02\0\1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          b"POST %s HTTP/1.1\r\nContent-Length: -1\r\n\r\n" % CHAT.encode(), b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
          b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
          b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
          b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
          b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n",
          b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70000 + b"\r\n\r\n", b"a" * 100000, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n"]

Asked = collections.namedtuple("Asked", "kind method data statuses")


class Chance(random.Random):
    def value(self, depth=0, words=WORDS):
        kind = self.randrange(8 if depth < 4 else 6)
        if kind == 0:
            return self.choice([None, True, False])
        if kind == 1:
            return self.choice([0, 1, -1, 5, 20, 1000, 2**31, -2**31, 2**53, 2**63 - 1, -2**63])
        if kind == 2:
            return self.choice([0.0, 0.5, 1.0, -1.5, 2.0, 1e300, 1e-300])
        if kind < 6:
            return self.choice(words)
        if kind == 6:
            return [self.value(depth + 1, words) for _ in range(self.choice([0, 1, 1, 2, 20]))]
        return {self.choice([*FIELDS, "role", "content", "type", "function"]): self.value(depth + 1, words) for _ in range(self.randrange(4))}

    def sound(self, path, words):
        """A body that is right."""
        word = self.choice(words)
        more = {"stream": True} if self.random() < 0.4 else {}
        if path.endswith("chat/completions"):
            return {"model": "null", **chat(word), **more}
        if path == COMPLETION:
            return {"model": "null", "prompt": self.choice([word, word, [1, 2, 3], [word]]), **more}
        if path.endswith("evaluate"):
            return {"tokens": [1] * self.choice([1, 5, 3000]), **self.choice([{}, {}, {"greedy": 3}, {"chunks": [1]}])}
        if path.endswith("keys"):
            return {"name": self.choice(["a", "b", "c"])}
        return {"messages": chat(word)["messages"]} if path.endswith("render") else {"text": word}

    def body(self, path, words):
        if self.random() < 0.1:
            path = self.choice(ROUTES)[1]
        body = self.sound(path, words)
        for _ in range(self.choice([0, 0, 0, 1, 1, 2, 3])):
            body[self.choice(FIELDS)] = self.value(words=words)
        if self.random() < 0.1:
            body["model"] = self.choice(NAMES)
        raw = json.dumps(body, ensure_ascii=self.random() < 0.5).encode("utf-8", "surrogatepass")
        return self.damaged(raw) if self.random() < 0.15 else raw

    def damaged(self, raw):
        at = self.randrange(len(raw) + 1)
        how = self.randrange(6)
        if how == 0:
            return raw[:at]
        if how == 1:
            return raw[:at] + bytes([self.randrange(256)]) + raw[at + 1:]
        if how == 2:
            return raw + b" " * self.choice([1, 70000, MAX_BODY - len(raw), MAX_BODY])
        if how == 3:
            return self.choice([b"\xef\xbb\xbf", b"x", b" "]) + raw
        if how == 4:
            return self.choice([b"[" + raw + b"]", b"", b"[]", b"null", b"{}", b'{"a": [' + b"1," * self.choice([100, 60000]) + b"1]}"])
        return b'{"' + self.choice(FIELDS).encode() + b'": ' + self.choice(LITERALS) + b", " + raw[1:]

    def request(self, words, uid):
        if self.random() < 0.04:
            return Asked("broken", GET, self.choice(BROKEN), None)
        method, route, _ = self.choices(ROUTES, [r[2] for r in ROUTES])[0]
        path, kind = route.replace("*", self.choice(NAMES)), f"{method} {route}"
        if self.random() < 0.04:
            path, kind = self.choice(STRANGE), "a strange path"
        if self.random() < 0.05:
            method, kind = self.choice(METHODS), "any method"
        has_body = method == POST or (method not in (GET, DELETE, "HEAD", "CONNECT", "TRACE") and self.random() < 0.5)
        body = self.body(path, words) if has_body else b""
        version = self.choice(["1.1"] * 9 + ["1.0"])
        head = [f"{method} {path} HTTP/{version}".encode("utf-8", "surrogateescape"), *self.choices(HEADERS, k=self.choice([0, 0, 0, 1, 3]))]
        if has_body and self.random() < 0.1:
            at = self.randrange(len(body) + 1)
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[:at], body[at:]) if c)
            head, body = [*head, b"Transfer-Encoding: chunked"], chunks + b"0\r\n\r\n"
        elif has_body:
            head.append(b"Content-Length: %d" % len(body))
        raw = b"\r\n".join(head) + b"\r\n\r\n" + body
        return Asked(kind, method, raw, fitting(method, path, body if has_body else None, uid))


def is_json(raw):
    def refuse(name):
        raise ValueError(name)
    try:
        return isinstance(json.loads(raw.decode("utf-8"), parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def fitting(method, path, body, uid):
    """The statuses that may answer this request, as far as that is plain."""
    if path in STRANGE or method == "CONNECT" or not re.fullmatch(r"[!-~]+", path) or "%" in path or "//" in path:
        return None
    known = [(m, r) for m, r, _ in ROUTES if re.fullmatch(r.replace("*", "[^/]{1,127}"), path)]
    if not known:
        return {404, 413}
    if not any(m == method for m, _ in known):
        return {405, 413}
    if path.startswith(ADMIN) and uid:
        return {403, 413}
    if method == POST and body and not body.startswith(b"0\r\n") and b"\r\n" not in body and not is_json(body):
        return {400, 413}
    return {200, 202, 400, 404, 409, 413, 429, 503}


class Malformed(AssertionError):
    pass


def well(condition, what):
    if not condition:
        raise Malformed(what)


def split_chunks(raw, at):
    """The body of a chunked answer that begins at @at, and where it ends; None: not yet."""
    body = []
    while True:
        end = raw.find(b"\r\n", at)
        if end < 0:
            return None
        well(re.fullmatch(rb"[0-9a-f]+", raw[at:end]), "the size of a chunk")
        size = int(raw[at:end], 16)
        if len(raw) < end + 4 + size:
            return None
        well(raw[end + 2 + size:end + 4 + size] == b"\r\n", "the end of a chunk")
        if size == 0:
            return b"".join(body), end + 4
        body.append(raw[end + 2:end + 2 + size])
        at = end + 4 + size


def take_answer(raw, at, method, ended):
    """Status, headers, body and end of the answer that begins at @at; None: not there yet."""
    end = raw.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    first, *lines = raw[at:end].decode("latin-1").split("\r\n")
    well(re.fullmatch(r"HTTP/1\.[01] [1-5]\d\d [ -~]+", first), "the first line")
    well(all(re.fullmatch(r"[\w-]+: [ -~]*", line) for line in lines), "the headers")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    well(len(headers) == len(lines), "a header twice")
    status, end = int(first.split()[1]), end + 4
    if status == 100 or method in ("HEAD", "CONNECT") and "content-length" not in headers:
        return status, headers, b"", end
    if "content-length" in headers:
        size = int(headers["content-length"])
        return (status, headers, raw[end:end + size], end + size) if len(raw) >= end + size else None
    if headers.get("transfer-encoding") == "chunked":
        chunks = split_chunks(raw, end)
        return chunks and (status, headers, *chunks)
    return (status, headers, raw[end:], len(raw)) if ended else None


def check_error(error):
    well(set(error) >= {"message", "type", "param", "code"} and error["message"] and error["code"], "an error without its parts")


def check_answer(asked, status, headers, body):
    kind = headers.get("content-type", "").split(";")[0]
    if asked.statuses and status not in asked.statuses:
        # What the null engine was told to do, or what another request did to the engine that both used.
        code = json.loads(body)["error"]["code"] if kind == "application/json" else None
        said = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", asked.data)  # without chunks
        well(status == 500 and (code, True) in (("internal", b"bad_utf8" in said), ("engine_died", b"mortal" in said),
                                                ("answer_too_long", b"size=4000" in said)),
             "a status that does not fit")
    if asked.method in ("HEAD", "CONNECT"):
        well(body == b"", "a body for who expects none")
    elif kind == "application/json":
        answer = json.loads(body.decode())
        if status >= 400:
            check_error(answer["error"])
    elif kind == "text/event-stream":
        well(body.endswith(b"\n\n"), "the end of a stream")
        events = [e for e in body.decode()[:-2].split("\n\n") if not e.startswith(":")]
        well(all(e.startswith("data: ") for e in events), "an event")
        parsed = [json.loads(e[6:]) for e in events if e != "data: [DONE]"]
        if events[-1] != "data: [DONE]":
            check_error(parsed[-1]["error"])
    else:
        well(kind in ("application/octet-stream", "text/plain", "application/openmetrics-text") or status != 200, f"a body of {kind}")


class Exchange:
    """A connection: what is sent, in pieces, and what comes."""

    def __init__(self, chance, path, uid, asked, mode):
        self.asked, self.mode = asked, mode
        self.out = b"".join(a.data for a in asked)
        if mode in ("cut", "half"):
            self.out = self.out[:chance.randrange(len(self.out) + 1)]
        self.patience = chance.choice([0, 1, 100, 5000, 200000])  # bytes until it is dropped
        self.raw, self.at, self.answers, self.n_read, self.last = bytearray(), 0, [], 0, {}
        self.piece = chance.choice([1 << 20, 1 << 20, 1 << 20, 1000, 20]) if len(self.out) < 20000 else 1 << 20
        self.socket = socket.socket(socket.AF_UNIX)
        if uid:
            os.seteuid(uid)
        try:
            self.socket.connect(path)
        finally:
            if uid:
                os.seteuid(0)
        self.socket.setblocking(False)
        self.began = self.moved = time.monotonic()
        self.took = None
        self.sound = mode in ("whole", "half whole") and all(a.statuses for a in asked)

    def events(self):
        return (selectors.EVENT_WRITE if self.out else 0) | selectors.EVENT_READ

    def send(self):
        try:
            n = self.socket.send(self.out[:self.piece])
        except BlockingIOError:
            return
        except OSError:  # it does not read what it refuses
            n = len(self.out)
        self.out = self.out[n:]
        if not self.out and self.mode in ("half", "half whole"):
            self.socket.shutdown(socket.SHUT_WR)

    def turn(self, events):
        """True: it is over."""
        self.moved = time.monotonic()
        if events & selectors.EVENT_WRITE:
            self.send()
        if self.mode == "cut" and not self.out:
            return True
        if not events & selectors.EVENT_READ:
            return False
        if self.mode == "deaf":
            return False
        try:
            part = self.socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            part = b""
        self.n_read += len(part)
        self.raw += part
        if self.mode == "drop" and self.n_read >= self.patience:
            return True
        return self.parse(not part) or not part

    def parse(self, ended):
        while self.at < len(self.raw) and len(self.answers) < len(self.asked):
            asked = self.asked[len(self.answers)]
            answer = take_answer(self.raw, self.at, asked.method, ended)
            if not answer:
                break
            status, self.last, body, self.at = answer
            if status != 100:
                self.answers.append(status)
                # After bytes that are no request nobody knows which request an answer is of.
                if all(a.statuses for a in self.asked[:len(self.answers)]):
                    check_answer(asked, status, self.last, body)
        if ended:
            self.check_end()
        done = len(self.answers) == len(self.asked)
        if done and self.took is None:
            self.took = time.monotonic() - self.began
        return done and self.mode != "half whole"

    def check_end(self):
        """The daemon has closed the connection: it had answered, or was asked nothing that it could answer."""
        if self.sound:
            well(self.at == len(self.raw), "half an answer")
            well(self.answers, "no answer")
            last = self.last.get("connection") == "close" or re.search(b"HTTP/1.0|Connection: close", self.asked[len(self.answers) - 1].data)
            well(len(self.answers) == len(self.asked) or last, "too few answers")

    def __str__(self):
        return f"{self.mode}\n{[a.kind for a in self.asked]}\n{[a.data[:2000] for a in self.asked]}\n{self.answers} {bytes(self.raw[self.at:][:2000])}"


def exchange(chance, daemon):
    uid = chance.choice([None, None, *OTHERS]) if OTHERS else None
    mode = chance.choices(["whole", "half whole", "half", "cut", "drop", "deaf"], [60, 8, 6, 8, 14, 4])[0]
    words = WORDS + ENDLESS * 4 if mode in ("drop", "deaf") else WORDS
    if chance.random() < 0.03:
        raw = f"{chance.choice(METHODS[:5])} {chance.choice(['/metrics', '/metrics', '/', '/healthz'])} HTTP/1.1\r\n\r\n".encode()
        return Exchange(chance, daemon.metrics, None, [Asked("metrics", raw.split()[0].decode(), raw, {200, 400, 404, 405, 501})], mode)
    asked = [chance.request(words, uid) for _ in range(chance.choice([1, 1, 1, 1, 1, 2, 4]))]
    return Exchange(chance, daemon.socket, uid, asked, mode)


class Storm:
    def __init__(self, daemon, seed):
        self.daemon, self.chance, self.whim = daemon, Chance(seed), random.Random(seed)  # what is asked hangs on no timing
        self.selector = selectors.DefaultSelector()
        self.took, self.statuses = collections.defaultdict(list), collections.Counter()

    def open(self):
        e = exchange(self.chance, self.daemon)
        self.selector.register(e.socket, e.events(), e)
        return len(e.asked)

    def close(self, e):
        self.selector.unregister(e.socket)
        e.socket.close()
        self.statuses.update(e.answers)
        if e.took is not None and len(e.asked) == 1 and e.mode == "whole":
            self.took[e.asked[0].kind].append(e.took)

    def turn(self):
        for key, events in self.selector.select(0.01):
            e = key.data
            try:
                over = e.turn(events)
            except (Malformed, ValueError, KeyError, IndexError) as error:
                raise AssertionError(f"{error!r} in the answer to\n{e}") from error
            if over:
                self.close(e)
            elif e.events() != key.events:
                self.selector.modify(e.socket, e.events(), e)
        for key in list(self.selector.get_map().values()):
            e = key.data
            if (e.mode in ("drop", "deaf") or not e.sound) and self.whim.random() < 0.005:
                self.close(e)  # whatever it waits for: the daemon may wait as well, for the rest of what is no request
            assert time.monotonic() < e.moved + PATIENCE, f"no answer to\n{e}"

    def bystand(self):
        start = time.monotonic()
        assert self.daemon.get("/healthz") == (200, {"status": "ok"})
        self.took["healthz of the bystander"].append(time.monotonic() - start)
        start = time.monotonic()
        assert self.daemon.post(CHAT, chat("tokens=1", model="calm"))[0] == 200
        self.took["chat of the bystander"].append(time.monotonic() - start)

    def run(self, n_calls):
        n = n_bystood = 0
        while n < n_calls:
            while n < n_calls and len(self.selector.get_map()) < AT_ONCE:
                n += self.open()
            self.turn()
            if n - n_bystood > 50:
                n_bystood = n
                self.bystand()
        while self.selector.get_map():
            self.turn()


def descriptors(daemon):
    """What the daemon holds, by kind; nothing where that cannot be seen."""
    if not SEES_INSIDE:
        return collections.Counter()
    folder = f"/proc/{daemon.process.pid}/fd"
    return collections.Counter(re.sub(r"[\[(]\d+\]", "", os.readlink(f"{folder}/{fd}")) for fd in os.listdir(folder))


def n_connections(daemon):
    """Of clients, on either socket: what the kernel has that is bound to their paths, but for what listens."""
    with open("/proc/net/unix") as table:
        rows = [line.split() for line in table]
    return sum(row[-1] in (daemon.socket, daemon.metrics) and row[3] != "00010000" for row in rows)


def at_rest(daemon):
    """What it holds when nobody asks anything."""
    for name in ("null", "mortal", "calm"):
        daemon.load(name)
    until("idle", lambda: daemon.status()["requests"] == {"running": 0, "queued": 0})
    assert daemon.post(CHAT, chat("tokens=2", model="calm"))[1]["choices"][0]["message"]["content"] == "tttt"
    until("closed connections", lambda: n_connections(daemon) == 0)
    return descriptors(daemon)


def report(storm):
    for kind, all_took in sorted(storm.took.items()):
        ms = sorted(t * 1000 for t in all_took)
        print(f"{kind:40} n={len(ms):6} p50 {ms[len(ms) // 2]:8.2f} p99 {ms[len(ms) * 99 // 100]:8.2f} max {ms[-1]:8.2f} ms")
    print(sorted(storm.statuses.items()))


def test_random_requests_leave_nothing_behind():
    models = [{"name": "null", "path": "null", "aliases": ["nil"]}, {"name": "mortal", "path": "mortal"}, {"name": "calm", "path": "calm"}]
    daemon = NullDaemon(*models)
    daemon.metrics = str(daemon.folder / "run/metrics.sock")
    daemon.write_config({"default_model": "null", "limits": {"stall_timeout": "1h"},
                         "listen": {"mode": "0666", "max_body": "128KiB", "metrics": daemon.metrics, "idle_timeout": "1h"}})
    with daemon:
        for folder in (daemon.folder, daemon.folder / "run"):
            os.chmod(folder, 0o755)
        storm = Storm(daemon, SEED)
        storm.run(300)  # whatever is allocated once is by now
        held, rss = at_rest(daemon), daemon.rss_kib()
        storm.run(N_CALLS)
        held_after = at_rest(daemon)
        if not os.environ.get("DEEPSEEKD_TEST_SANITIZE"):  # which keeps what was freed
            until("memory given back", lambda: daemon.rss_kib() < rss + 8192)
        report(storm)
        print(f"{N_CALLS} requests: {rss} KiB before, {daemon.rss_kib()} KiB after; {held.total()} and {held_after.total()} descriptors")
        assert held_after == held
        assert daemon.model("null")["engine_deaths"] == daemon.model("calm")["engine_deaths"] == 0
        assert "malformed" not in daemon.log()

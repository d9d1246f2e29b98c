"""Many clients at once, slow ones, ones that leave, and engines that die."""

import contextlib
import json
import os
import signal
import socket
import threading
import time

import pytest
from deepseekd import PATIENCE, Connection, until
from null_daemon import CHAT, NullDaemon, chat, text_of

SANITIZED = bool(os.environ.get("DEEPSEEKD_TEST_SANITIZE"))


@pytest.fixture
def daemon():
    with NullDaemon({"name": "null", "path": "null", "parallel": 256}) as d:
        d.load("null")
        yield d


def leave(connection):
    connection.sock.close()
    connection.close()


def begin(daemon, words, **more):
    """Send a request without waiting for the answer."""
    connection = Connection(daemon.socket)
    connection.request("POST", CHAT, json.dumps(chat(words, **more)))
    return connection


def written(path, body):
    raw = json.dumps(body).encode() if body else b""
    return (f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n").encode() + raw


@pytest.mark.parametrize("before, stream", [(written("/healthz", None), False), (b"", True)])
def test_leaving_what_was_sent_unread_cancels_what_waits(daemon, before, stream):
    """Such a client resets the connection, which the kernel tells in another way than a close."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(daemon.socket)
        sock.sendall(before + written(CHAT, chat("prefill_ms=600000", stream=stream)))
        daemon.wait_running(1)
        if before:
            assert sock.recv(1, socket.MSG_PEEK)
    daemon.wait_idle()


def test_leaving_a_stream_cancels_it(daemon):
    connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
    response.read(2000)
    response.close()
    leave(connection)
    until("the cancellation", daemon.cancelled, 5)
    assert daemon.cancelled()[0] < 1000
    daemon.wait_idle()


def test_leaving_in_prefill_cancels(daemon):
    connection = begin(daemon, "prefill_ms=60000", stream=True)
    daemon.wait_running(1)
    leave(connection)
    until("the cancellation", lambda: daemon.cancelled() == [0], 5)
    daemon.wait_idle()


def test_leaving_an_answer_that_is_not_streamed_cancels(daemon):
    connection = begin(daemon, "tokens=100000 delay_us=1000")
    daemon.wait_running(1)
    leave(connection)
    until("the cancellation", daemon.cancelled, 5)
    daemon.wait_idle()


def test_leaving_after_having_shut_down_writing_cancels_too(daemon):
    connection = begin(daemon, "tokens=100000 delay_us=1000")
    daemon.wait_running(1)
    connection.sock.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    assert daemon.model("null")["running"] == 1
    leave(connection)
    until("the cancellation", daemon.cancelled, 5)
    daemon.wait_idle()


def test_leaving_the_queue_leaves_it():
    with NullDaemon({"name": "null", "path": "null", "parallel": 1}) as daemon:
        first = begin(daemon, "tokens=100000 delay_us=1000")
        daemon.wait_running(1)
        waiting = [begin(daemon, "tokens=1", stream=stream) for stream in (True, False)]
        until("two waiting", lambda: daemon.status()["requests"] == {"running": 1, "queued": 2})
        for connection in waiting:
            leave(connection)
        until("nobody waiting", lambda: daemon.status()["requests"] == {"running": 1, "queued": 0})
        assert not daemon.cancelled()
        leave(first)
        daemon.wait_idle()


def test_leaving_while_the_model_loads_is_no_harm():
    with NullDaemon() as daemon:
        daemon.write_model({"name": "null", "path": "null"}, delay_ms=500)
        leave(begin(daemon, "tokens=1"))
        until("ready", lambda: daemon.model("null")["state"] == "ready")
        assert daemon.model("null")["running"] == 0


def test_leaving_an_evaluation_cancels_it(daemon):
    connection, response = daemon.open("POST", "/admin/v1/models/null/evaluate", {"tokens": [1] * 100000, "greedy": 1000000})
    response.read(100000)
    response.close()
    leave(connection)
    until("the cancellation", daemon.cancelled, 5)


def test_a_slow_reader_holds_up_nobody_and_fills_no_memory(daemon):
    before = daemon.rss_kib()
    slow = [daemon.open("POST", CHAT, chat("tokens=100000 size=1000", stream=True)) for _ in range(10)]
    time.sleep(0.5)
    start = time.monotonic()
    for _ in range(20):
        assert len(list(daemon.stream(CHAT, chat("tokens=20")))) == 22
    assert time.monotonic() - start < 5
    if not SANITIZED:
        assert daemon.rss_kib() - before < 10 * 600  # their credit and a buffer each
    connection, response = slow[0]
    data = response.read(3000000)  # it goes on where it was
    assert data.count(b"ttt") > 100
    for connection, response in slow:
        response.close()
        leave(connection)
    daemon.wait_idle()


def test_a_reader_that_stalls_is_given_up():
    with NullDaemon(config={"limits": {"stall_timeout": "1s"}, "listen": {"idle_timeout": "1s"}}) as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 size=1000", stream=True))
        until("the cancellation", daemon.cancelled, 10)
        # a stream that goes on, or waits for its first token, is no idle connection
        assert len(list(daemon.stream(CHAT, chat("tokens=25 delay_us=100000")))) == 27
        assert daemon.post(CHAT, chat("prefill_ms=2500 tokens=1"))[0] == 200
        leave(connection)


def test_an_idle_connection_is_closed():
    with NullDaemon(config={"listen": {"idle_timeout": "1s"}}) as daemon:
        connection, response = daemon.open("GET", "/healthz")
        response.read()
        connection.sock.settimeout(10)
        assert connection.sock.recv(1) == b""
        connection.close()


def test_more_clients_than_allowed_wait_to_be_accepted():
    with NullDaemon(config={"listen": {"max_clients": 2}}) as daemon:
        daemon.load("null")
        until("old connections to be gone", lambda: daemon.get("/healthz")[0] == 200)
        held = [begin(daemon, "tokens=100000 delay_us=1000") for _ in range(2)]
        time.sleep(0.3)
        third = begin(daemon, "tokens=1")
        third.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            third.sock.recv(1)
        leave(held[0])
        third.sock.settimeout(PATIENCE)
        assert third.getresponse().status == 200
        third.close()
        leave(held[1])


def test_one_user_cannot_have_all_connections():
    with NullDaemon(config={"listen": {"max_clients": 8}}) as daemon, contextlib.ExitStack() as held:
        def nobody_is_left():
            connection, response = daemon.open("GET", "/healthz")
            response.read()
            connection.close()
            return response.status == 200

        until("old connections to be gone", nobody_is_left)
        for _ in range(6):
            sock = held.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(daemon.socket)
        connection = Connection(daemon.socket)
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert response.status == 429
        assert json.loads(response.read())["error"]["code"] == "too_many_connections"
        connection.close()
        sock = held.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(daemon.socket)
        assert sock.recv(1) == b"", "a connection whose request does not come is given up soon"
        held.close()
        until("room again", lambda: daemon.get("/healthz")[0] == 200)


def test_two_hundred_streams_and_a_large_body_fit_in_memory(daemon):
    """And a further client's stream goes on; how smoothly is measured by tests/bench/token-gaps.py."""
    further, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=2000", stream=True))
    streams = [begin(daemon, "tokens=100000 delay_us=200000", stream=True) for _ in range(200)]
    daemon.wait_running(201)
    status, answer = daemon.post(CHAT, json.dumps(chat("a" * 4194000 + " tokens=1")).encode())
    assert status == 200, answer
    assert daemon.model("null")["running"] == 201
    assert response.read(100000).count(b"data: ") > 100
    if not SANITIZED:
        assert daemon.peak_rss_kib() < 40 * 1024
    for connection in [further, *streams]:
        leave(connection)
    daemon.wait_idle()


def test_a_body_of_too_many_values_is_told_in_json_and_fills_no_memory(daemon):
    before = daemon.rss_kib()
    status, answer = daemon.request("POST", CHAT, b'{"x": [' + b"{}," * 1300000 + b"1]}")
    assert status == 413
    assert answer["error"]["code"] == "request_too_large"
    assert daemon.rss_kib() < before + (64 << 10)


def test_many_parts_are_joined_at_once(daemon):
    parts = [{"type": "text", "text": "x" * 1000000}] + [{"type": "text", "text": ""}] * 12000
    start = time.monotonic()
    assert daemon.post(CHAT, {"messages": [{"role": "user", "content": parts}]})[0] == 200
    assert time.monotonic() - start < 30


# Bodies that are parsed in many slices.
LONG_TEXT = json.dumps(chat("a" * 4194000 + " tokens=1")).encode()
MANY_NUMBERS = json.dumps({"prompt": [7] * 262000}).encode()


def send_and_leave(daemon, path, body):
    """Gone while the body is parsed, most likely; wherever it is, nothing may come of it."""
    connection = Connection(daemon.socket)
    connection.request("POST", path, body)
    leave(connection)


def test_who_leaves_while_a_large_body_is_parsed_is_forgotten(daemon):
    for _ in range(5):
        send_and_leave(daemon, CHAT, LONG_TEXT)
        send_and_leave(daemon, "/v1/completions", MANY_NUMBERS)
        send_and_leave(daemon, CHAT, LONG_TEXT[:-1])
        send_and_leave(daemon, "/admin/v1/models/null/evaluate", json.dumps({"tokens": [7] * 262000}).encode())
    assert daemon.post(CHAT, LONG_TEXT)[0] == 200
    daemon.wait_idle()


def test_who_leaves_while_a_large_answer_is_written_is_forgotten(daemon):
    for i in range(10):
        connection = begin(daemon, "tokens=5000 logprobs=1", logprobs=True)
        time.sleep(0.01 * i)  # wherever it is by then
        leave(connection)
    daemon.wait_idle()
    assert daemon.post(CHAT, chat("tokens=1"))[0] == 200


def test_many_large_bodies_at_once_are_all_answered(daemon):
    bodies = [(CHAT, LONG_TEXT, 200), ("/v1/completions", MANY_NUMBERS, 200), (CHAT, LONG_TEXT[:-1], 400),
              (CHAT, json.dumps(chat("b" * 50000 + " tokens=1")).encode(), 200)] * 4
    connections = []
    for path, body, _ in bodies:
        connection = Connection(daemon.socket)
        connection.request("POST", path, body)
        connections.append(connection)
    for connection, (_, _, status) in zip(connections, bodies):
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
        connection.close()


def test_a_large_answer_with_logprobs_is_whole(daemon):
    status, answer = daemon.post(CHAT, chat("tokens=5000 reasoning=2000 logprobs=1", logprobs=True))
    logprobs = answer["choices"][0]["logprobs"]
    assert (status, len(logprobs["reasoning_content"]), len(logprobs["content"])) == (200, 2000, 3000)
    assert {item["token"] for item in logprobs["content"]} == {"t"}
    status, answer = daemon.post("/v1/completions", {"prompt": "tokens=5000 logprobs=1", "logprobs": 1})
    logprobs = answer["choices"][0]["logprobs"]
    assert (status, logprobs["text_offset"]) == (200, list(range(5000)))
    assert logprobs["token_logprobs"] == [-0.5] * 5000 and logprobs["top_logprobs"] == [{"t": -0.5}] * 5000


def test_where_a_large_body_is_wrong_is_told(daemon):
    status, answer = daemon.post(CHAT, b'{"messages": "' + b"x" * 100000 + b'",\n "model": nobody}')
    assert status == 400
    assert "line 2, column 16" in answer["error"]["message"], answer


def test_a_model_removed_while_a_large_body_is_parsed_is_gone():
    with NullDaemon() as daemon:
        daemon.load("null")
        connection = Connection(daemon.socket)
        connection.request("POST", CHAT, json.dumps(chat("a" * 4000000, model="null")))
        (daemon.folder / "models.d/null.yaml").unlink()
        daemon.write_config({})
        daemon.reload()
        response = connection.getresponse()
        assert response.status in (200, 404, 503), response.read()
        connection.close()
        until("the model is gone", lambda: not daemon.status()["models"])


def test_the_daemon_ends_while_large_bodies_are_parsed():
    with NullDaemon() as daemon:
        daemon.load("null")
        connections = []
        for _ in range(4):
            connection = Connection(daemon.socket)
            connection.request("POST", CHAT, LONG_TEXT)
            connections.append(connection)
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE) == 0
        for connection in connections:
            connection.close()


def test_an_idle_daemon_with_a_model_is_small(daemon):
    daemon.post(CHAT, chat("tokens=100"))
    status, answer = daemon.post(CHAT, chat("tokens=10000 size=4000"))
    assert (status, len(answer["choices"][0]["message"]["content"])) == (200, 40000000)
    daemon.post(CHAT, LONG_TEXT)
    if not SANITIZED:
        until("memory given back", lambda: daemon.rss_kib() < 12 * 1024)


def test_what_was_gathered_for_who_left_is_given_back_to_the_system(daemon):
    before = daemon.rss_kib()
    large = [begin(daemon, "tokens=16000 size=4000 delay_us=1000") for _ in range(16)]
    until("much of the answers", lambda: daemon.rss_kib() > before + (64 << 10))
    small = begin(daemon, "tokens=16000 size=2000 delay_us=5000")  # what it takes lies above in memory
    daemon.wait_running(17)
    until("more of them", lambda: daemon.rss_kib() > before + (96 << 10))
    for connection in large:
        leave(connection)
    daemon.wait_running(1)
    if not SANITIZED:
        until("memory given back", lambda: daemon.rss_kib() < before + (32 << 10))
    leave(small)


def test_an_answer_that_does_not_end_is_refused_unless_it_is_streamed(daemon):
    refusal = daemon.post(CHAT, chat("tokens=1000000 size=4000"))
    assert refusal[0] == 500 and refusal[1]["error"]["code"] == "answer_too_long" and "stream" in refusal[1]["error"]["message"]
    if not SANITIZED:
        assert daemon.peak_rss_kib() < 192 << 10
    until("the cancellation", daemon.cancelled)
    assert len(text_of(daemon.stream(CHAT, chat("tokens=20000 size=4000")))) == 80000000


def test_a_full_queue_refuses_with_429():
    with NullDaemon({"name": "null", "path": "null", "parallel": 1}, config={"limits": {"queue": 2}}) as daemon:
        held = [begin(daemon, "tokens=100000 delay_us=1000")]
        daemon.wait_running(1)
        held += [begin(daemon, "tokens=1") for _ in range(2)]
        until("two waiting", lambda: daemon.model("null")["waiting"] == 2)
        connection, response = daemon.open("POST", CHAT, chat("tokens=1", stream=True))
        assert response.status == 429 and response.getheader("Retry-After")
        assert json.loads(response.read())["error"]["code"] == "overloaded"
        for connection in held:
            leave(connection)


def test_a_queue_of_none_still_runs_what_fits():
    with NullDaemon(config={"limits": {"queue": 0}}) as daemon:
        daemon.load("null")
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_second_user_does_not_wait_for_all_of_the_first():
    with NullDaemon({"name": "null", "path": "null", "parallel": 1}, config={"listen": {"mode": "0666"}}) as daemon:
        for folder in (daemon.folder, daemon.folder / "run"):
            os.chmod(folder, 0o755)
        held = [begin(daemon, "tokens=100 delay_us=1000") for _ in range(20)]
        until("nineteen waiting", lambda: daemon.model("null")["waiting"] >= 18)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            os._exit(0 if daemon.post(CHAT, chat("tokens=1"))[0] == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert daemon.model("null")["waiting"] > 10
        for connection in held:
            leave(connection)


def test_a_killed_engine_ends_its_streams_with_an_error_and_nothing_else(daemon):
    connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
    response.read(1000)
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    last = response.read().strip().split(b"\n\n")[-1]
    connection.close()
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["code"] == "engine_died" and "signal 9" in error["message"]
    assert daemon.post(CHAT, chat("tokens=2"))[0] == 200
    model = daemon.model("null")
    assert (model["loads"], model["engine_starts"], model["state"]) == (1, 2, "ready")


def test_a_killed_engine_ends_an_answer_that_is_not_streamed_with_500(daemon):
    connection = begin(daemon, "tokens=100000 delay_us=1000")
    daemon.wait_running(1)
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    response = connection.getresponse()
    assert response.status == 500 and json.loads(response.read())["error"]["code"] == "engine_died"
    connection.close()


def test_fifty_killed_engines_cost_no_load_and_no_daemon(daemon):
    stop, outcomes = threading.Event(), []

    def ask():
        while not stop.is_set():
            connection, response = daemon.open("POST", CHAT, chat("tokens=30 delay_us=500", stream=True))
            with contextlib.closing(connection):
                last = response.read().strip().split(b"\n\n")[-1]
            outcomes.append("done" if last == b"data: [DONE]" else
                            json.loads(last.removeprefix(b"data: "))["error"]["code"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=500", stream=True))
        response.readline()
        n_done = outcomes.count("done")
        until("an answer", lambda: outcomes.count("done") > n_done)
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        assert b"engine_died" in response.read()
        connection.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"done", "engine_died"}
    model = daemon.model("null")
    assert (model["loads"], model["engine_starts"]) == (1, 51) and daemon.process.poll() is None


def test_an_engine_that_breaks_the_rules_is_killed(daemon):
    status, body = daemon.post(CHAT, chat("breach=1"))
    assert status == 500 and body["error"]["code"] == "engine_died"
    assert "does not belong here" in body["error"]["message"]
    assert daemon.post(CHAT, chat("tokens=2"))[0] == 200


def test_an_engine_that_speaks_for_another_model_is_killed():
    with NullDaemon({"name": "null", "path": "null"}, {"name": "other", "path": "other"}) as daemon:
        daemon.load("null")
        daemon.load("other")
        victim = begin(daemon, "tokens=100000 delay_us=1000", model="other")
        daemon.wait_running(1, "other")
        status, body = daemon.post(CHAT, chat("forge=1"))
        assert status == 500 and "another model" in body["error"]["message"]
        assert daemon.model("other")["running"] == 1
        leave(victim)


def test_an_engine_that_keeps_dying_is_started_ever_later(daemon):
    start = time.monotonic()
    for _ in range(6):
        assert daemon.post(CHAT, chat("die=0"))[1]["error"]["code"] == "engine_died"
    assert time.monotonic() - start > 0.7
    assert daemon.post(CHAT, chat("tokens=2"))[0] == 200


def test_a_waiting_stream_hears_that_somebody_is_there():
    with NullDaemon() as daemon:
        daemon.load("null")
        connection, response = daemon.open("POST", CHAT, chat("prefill_ms=11000 tokens=1", stream=True))
        assert response.readline() == b": keep-alive\n"
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()


def test_streams_at_the_same_time_do_not_mix(daemon):
    def ask(n):
        got[n] = text_of(daemon.stream(CHAT, chat(f"tokens={n} delay_us=100 size=3")))

    got = {}
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: "ttt" * n for n in range(1, 60)}

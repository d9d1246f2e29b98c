"""What the daemon tells of itself: the journal's fields, audit records, metrics. And what it never tells."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest
from prometheus_client.openmetrics import parser

from deepseekd import STAGE, Deepseekd, Connection, until
from null_daemon import CHAT, NullDaemon, chat
from test_tcp import Tcp

SOURCE = pathlib.Path(__file__).parents[2]
STUB = str(pathlib.Path(__file__).with_name("journal_stub.py"))
IDS = dict(re.findall(r'DS_MESSAGE_(\w+)\s+"(\w+)"', (SOURCE / "daemon/message-ids.h").read_text()))
CATALOG = (STAGE / "lib/systemd/catalog/deepseekd.catalog").read_text()
MARKER = "xylophone"
NULL = {"name": "null", "path": "null"}

# Whoever may make a mount namespace can put a stub in the journal's place.
UNSHARE = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
can_unshare = subprocess.run([*UNSHARE, "unshare", "--mount", "true"], capture_output=True).returncode == 0
with_journal = pytest.mark.skipif(not can_unshare, reason="a mount namespace may not be made here")


class Journalled(NullDaemon):
    def start(self):
        if "journal_stub.py" not in " ".join(self.arguments):
            self.arguments = [*UNSHARE, sys.executable, STUB, str(self.folder / "journal"), *self.arguments]
        return super().start()

    def entries(self, event=None, **fields):
        lines = (self.folder / "journal").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        if event:
            found = [e for e in found if e.get("MESSAGE_ID") == IDS[event]]
        return [e for e in found if all(e.get(k) == v for k, v in fields.items())]

    def entry(self, event, **fields):
        return until(event, lambda: self.entries(event, **fields))[-1]


def test_the_catalogue_explains_every_message_id_and_no_other():
    entries = re.split(r"^-- ", CATALOG, flags=re.M)[1:]
    assert sorted(e.split("\n", 1)[0] for e in entries) == sorted(IDS.values())
    assert all(re.fullmatch("[0-9a-f]{32}", i) for i in IDS.values()) and len(set(IDS.values())) == len(IDS)
    for entry in entries:
        head, _, text = entry.partition("\n\n")
        assert re.search(r"^Subject: .", head, re.M) and "\nDefined-By: deepseekd" in head and text.strip()
    fields = set(re.findall(r'"(DEEPSEEKD_\w+)"', (SOURCE / "daemon/observe.c").read_text()))
    assert set(re.findall(r"@(\w+)@", CATALOG)) <= fields


@with_journal
def test_a_request_leaves_one_audit_record_with_its_numbers():
    with Journalled() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=5"))
        with contextlib.closing(connection):
            usage = json.loads(response.read())["usage"]
        record = daemon.entry("REQUEST_DONE")
        assert len(daemon.entries("REQUEST_DONE")) == 1
        assert record["DEEPSEEKD_REQUEST"] == response.getheader("x-request-id")
        assert record["DEEPSEEKD_MODEL"] == "null" and record["DEEPSEEKD_KIND"] == "generate"
        assert record["DEEPSEEKD_OUTCOME"] == "stop" and record["DEEPSEEKD_UID"] == ("0" if UNSHARE else str(os.getuid()))
        assert record["DEEPSEEKD_OWNER"] == "uid:" + record["DEEPSEEKD_UID"]
        assert int(record["DEEPSEEKD_PROMPT_TOKENS"]) == usage["prompt_tokens"]
        assert int(record["DEEPSEEKD_COMPLETION_TOKENS"]) == usage["completion_tokens"] == 5
        assert int(record["DEEPSEEKD_CACHED_TOKENS"]) == usage["prompt_tokens_details"]["cached_tokens"] == 2
        assert all(int(record[f"DEEPSEEKD_{part}_USEC"]) >= 0 for part in ("QUEUE", "PREFILL", "DECODE"))
        assert record["PRIORITY"] == "6" and record["SYSLOG_IDENTIFIER"] == "deepseekd"
        assert record["MESSAGE"].startswith(f"request {record['DEEPSEEKD_REQUEST']}: generate of uid:")
        assert "deepseekd" not in daemon.log(), "what goes to the journal is not also written to stderr"


class JournalledTcp(Journalled, Tcp):
    pass


@with_journal
def test_a_client_with_a_key_is_recorded_by_its_name_and_the_key_is_nowhere():
    with JournalledTcp() as daemon:
        key = daemon.key("laptop")
        assert daemon.ask("POST", CHAT, key, chat("tokens=1"))[0] == 200
        daemon.ask("POST", CHAT, key[:-1] + ("1" if key.endswith("0") else "0"), chat("tokens=1"))
        record = daemon.entry("REQUEST_DONE")
        assert record["DEEPSEEKD_OWNER"] == "key:laptop" and "DEEPSEEKD_UID" not in record
        assert len(daemon.entries("REQUEST_DONE")) == 1
        assert key[:-1] not in json.dumps(daemon.entries()) + daemon.log()


@with_journal
def test_a_request_that_ends_badly_says_how():
    with Journalled() as daemon:
        daemon.post(CHAT, chat("fail=1"))
        daemon.post(CHAT, chat("long=1"))
        daemon.post(CHAT, chat("die=2 tokens=5"))
        outcomes = until("three records", lambda: len(daemon.entries("REQUEST_FAILED")) == 3 and daemon.entries("REQUEST_FAILED"))
        assert [e["DEEPSEEKD_OUTCOME"] for e in outcomes] == ["invalid_request", "context_length_exceeded", "engine_died"]
        died = daemon.entry("ENGINE_DIED")
        assert died["DEEPSEEKD_MODEL"] == "null" and died["DEEPSEEKD_REASON"] and died["PRIORITY"] == "4"


@with_journal
def test_a_client_that_leaves_is_recorded_with_what_it_got():
    with Journalled() as daemon:
        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
        while b"content" not in response.readline():
            pass
        connection.sock.shutdown(socket.SHUT_RDWR)
        response.close()
        connection.close()
        record = daemon.entry("REQUEST_FAILED")
        assert record["DEEPSEEKD_OUTCOME"] == "cancelled" and int(record["DEEPSEEKD_COMPLETION_TOKENS"]) >= 1


def test_every_request_leaves_exactly_one_record_however_it_ends():
    with NullDaemon({**NULL, "parallel": 1}, config={"limits": {"queue": 2}}) as daemon:
        ids = []

        def ask(words):
            connection, response = daemon.open("POST", CHAT, chat(words))
            with contextlib.closing(connection):
                response.read()
            ids.append(response.getheader("x-request-id"))

        connection, response = daemon.open("POST", CHAT, chat("tokens=100000 delay_us=1000", stream=True))
        ids.append(response.getheader("x-request-id"))
        daemon.wait_running(1)
        threads = [threading.Thread(target=ask, args=["tokens=2"]) for _ in range(6)]
        for thread in threads:
            thread.start()
        until("two wait and four are refused", lambda: daemon.log().count(": overloaded;") == 4)
        connection.sock.shutdown(socket.SHUT_RDWR)
        response.close()
        connection.close()
        for thread in threads:
            thread.join()
        for words in ("fail=1", "long=1", "die=1 tokens=9", "tokens=1", "tool=1"):
            ask(words)
        recorded = re.findall(r"^deepseekd: request (req-\w+): generate .* by null: (\w+);", daemon.log(), re.M)
        assert sorted(i for i, _ in recorded) == sorted(ids)
        outcomes = [o for _, o in recorded]
        assert {o: outcomes.count(o) for o in outcomes} == {"overloaded": 4, "cancelled": 1, "stop": 3, "invalid_request": 1, "engine_died": 1,
                                                            "context_length_exceeded": 1, "tool_calls": 1}


@with_journal
def test_the_life_of_a_model_and_of_the_configuration_has_ids():
    with Journalled(config={"limits": {"memory": "64MiB"}}) as daemon:
        assert daemon.entry("STARTED")["PRIORITY"] == "5"
        daemon.load("null")
        assert daemon.entry("MODEL_LOADING", DEEPSEEKD_MODEL="null") and daemon.entry("MODEL_LOADED", DEEPSEEKD_STATE="ready")
        daemon.post("/admin/v1/models/null/unload", {})
        assert daemon.entry("MODEL_UNLOADED")
        daemon.write_model(NULL, kv=1 << 20)
        daemon.post("/admin/v1/models/null/load", {})
        refused = daemon.entry("MEMORY_REFUSED")
        assert "limits.memory is 64.0 MiB" in refused["DEEPSEEKD_REASON"]
        assert daemon.entry("MODEL_FAILED", PRIORITY="3")["DEEPSEEKD_REASON"] == refused["DEEPSEEKD_REASON"]
        daemon.write_config({"default_model": "null", "limits": {"memory": "32MiB"}})
        daemon.reload()
        daemon.entry("CONFIG_APPLIED")
        daemon.config.write_text("version: 1\nnonsense: 1\n")
        daemon.reload()
        assert daemon.entry("CONFIG_REFUSED")["PRIORITY"] == "3"


@with_journal
def test_a_daemon_that_does_not_start_says_why_with_an_id():
    daemon = Journalled()
    daemon.config.write_text("version: 1\nnonsense: 1\n")
    with pytest.raises(AssertionError, match="ended with 1"):
        daemon.start()
    until("the reasons", lambda: len(daemon.entries(PRIORITY="3")) == 2)
    place, summary = daemon.entries(PRIORITY="3")
    assert "deepseekd.yaml:2:1: nonsense: unknown key" in place["MESSAGE"] and "MESSAGE_ID" not in place
    assert summary["MESSAGE_ID"] == IDS["CONFIG_REFUSED"]


@with_journal
def test_what_a_file_says_cannot_make_fields_of_its_own():
    with Journalled() as daemon:
        daemon.write_model(NULL, fail="bad\nMESSAGE_ID=forged\nDEEPSEEKD_UID=0")
        daemon.post("/admin/v1/models/null/load", {})
        entry = daemon.entry("MODEL_FAILED")
        assert entry["DEEPSEEKD_REASON"] == "bad?MESSAGE_ID=forged?DEEPSEEKD_UID=0" and "DEEPSEEKD_UID" not in entry


def test_without_a_journal_the_record_is_a_line_and_a_level_hides_it():
    with NullDaemon() as daemon:
        daemon.post(CHAT, chat("tokens=3"))
        assert re.search(r"^deepseekd: request req-\w+: generate of uid:\d+ by null: stop; tokens \d+\+3, 2 cached; ", daemon.log(), re.M)
    with NullDaemon(config={"log": {"level": "notice"}}, environment={"JOURNAL_STREAM": "1:2"}) as daemon:
        daemon.post(CHAT, chat("tokens=3"))
        assert "request" not in daemon.log() and "deepseekd: deepseekd" in daemon.log()


def test_no_word_of_a_prompt_or_an_answer_is_logged():
    with Deepseekd("tiny-r1", config={"log": {"level": "debug"}}) as daemon:
        answers = [daemon.ask(f"Reverse {MARKER}.")["choices"][0]["message"]]
        answers += [c["choices"][0]["delta"] for c in daemon.stream(CHAT, {
            "messages": [{"role": "user", "content": f"Reverse {MARKER}."}], "temperature": 0}) if c["choices"]]
        daemon.post("/v1/completions", {"prompt": MARKER, "max_tokens": 4, "echo": True})
        daemon.post("/v1/models/tiny-r1/tokenize", {"text": MARKER})
        daemon.post("/v1/models/tiny-r1/render", {"messages": [{"role": "user", "content": MARKER}]})
        daemon.post(CHAT, {"messages": [{"role": MARKER, "content": MARKER}]})
        daemon.post(CHAT, {"messages": [{"role": "user", "content": MARKER}], MARKER: 1})
        daemon.post(CHAT, {"messages": [{"role": "user", "content": MARKER * 20000}]})
        daemon.post(CHAT, f'{{"messages": [{MARKER}'.encode())
        said = [a.get(k) or "" for a in answers for k in ("content", "reasoning_content")]
        assert MARKER[::-1] in "".join(said), "the model was to say it backwards"
        log = daemon.log()
        assert log.count("deepseekd: request req-") >= 5
        for word in (MARKER, MARKER[::-1], *(s.strip() for s in said[:2] if len(s.strip()) > 3)):
            assert word not in log


# Metrics

def scrape(path, target="/metrics", method="GET"):
    connection = Connection(str(path))
    connection.request(method, target)
    response = connection.getresponse()
    with contextlib.closing(connection):
        return response.status, response.getheader("Content-Type"), response.read().decode()


def families(text):
    return {f.name: f for f in parser.text_string_to_metric_families(text)}


def value(all_families, family, suffix="", **labels):
    name = family + suffix
    found = [s.value for s in all_families[family].samples if s.name == name and all(s.labels.get(k) == v for k, v in labels.items())]
    assert len(found) == 1, (name, labels, found)
    return found[0]


class Measured(NullDaemon):
    def __init__(self, *models, config=None, **more):
        super().__init__(*models, **more)
        self.metrics = self.folder / "run/metrics.sock"
        name = models[0]["name"] if models else "null"
        self.write_config({"default_model": name, **(config or {}), "listen": {"metrics": str(self.metrics)}})

    def scrape(self):
        status, kind, text = scrape(self.metrics)
        assert status == 200 and kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return families(text)


def test_metrics_are_openmetrics_and_count_what_was_done():
    with Measured() as daemon:
        before = daemon.scrape()
        assert value(before, "deepseekd_requests", "_total", kind="generate", outcome="stop") == 0
        assert value(before, "deepseekd_model_state", model="null", deepseekd_model_state="absent") == 1
        usage = [daemon.post(CHAT, chat("tokens=5"))[1]["usage"] for _ in range(3)]
        daemon.post(CHAT, chat("long=1"))
        after = daemon.scrape()
        assert value(after, "deepseekd_requests", "_total", kind="generate", outcome="stop") == 3
        assert value(after, "deepseekd_requests", "_total", kind="generate", outcome="context_length_exceeded") == 1
        assert value(after, "deepseekd_prompt_tokens", "_total") >= sum(u["prompt_tokens"] for u in usage)
        assert value(after, "deepseekd_completion_tokens", "_total") == 15
        assert value(after, "deepseekd_time_to_first_token_seconds", "_count") == 3
        assert value(after, "deepseekd_time_to_first_token_seconds", "_bucket", le="+Inf") == 3
        assert value(after, "deepseekd_model_loads", "_total") == value(after, "deepseekd_engine_starts", "_total") == 1
        assert value(after, "deepseekd_image_bytes") == 4096 and value(after, "deepseekd_kv_capacity_tokens") == 4096
        assert value(after, "deepseekd_model_state", deepseekd_model_state="ready") == 1
        assert sum(s.value for s in after["deepseekd_model_state"].samples) == 1
        assert value(after, "deepseekd_memory_held_bytes") > 0 and after["deepseekd_memory_limit_bytes"].unit == "bytes"
        assert after["deepseekd_build"].type == "info" and after["deepseekd_token_gap_seconds"].unit == "seconds"


def test_running_and_waiting_requests_and_gaps_are_seen():
    with Measured({**NULL, "parallel": 1}) as daemon:
        done = []
        threads = [threading.Thread(target=lambda: done.append(daemon.post(CHAT, chat("tokens=400 delay_us=2000")))) for _ in range(2)]
        for thread in threads:
            thread.start()
        daemon.wait_running(1)
        until("one waits", lambda: value(daemon.scrape(), "deepseekd_requests_waiting") == 1)
        assert value(daemon.scrape(), "deepseekd_requests_running") == 1
        for thread in threads:
            thread.join()
        after = daemon.scrape()
        assert value(after, "deepseekd_token_gap_seconds", "_count") > 10
        assert value(after, "deepseekd_queue_seconds", "_count") == 2


def test_a_dead_engine_is_counted():
    with Measured() as daemon:
        daemon.load("null")
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        until("a death", lambda: value(daemon.scrape(), "deepseekd_engine_deaths", "_total") == 1)
        until("a start", lambda: value(daemon.scrape(), "deepseekd_engine_starts", "_total") == 2)
        assert daemon.model("null")["engine_deaths"] == 1


def test_series_do_not_grow_with_requests_users_or_what_an_engine_says():
    with Measured() as daemon:
        daemon.post(CHAT, chat("tokens=1"))
        daemon.post(CHAT, chat("fail=1"))
        first = scrape(daemon.metrics)[2]
        for i in range(20):
            daemon.post(CHAT, chat(f"tokens={i} fail={i % 2}", user=f"u{i}"))
        assert scrape(daemon.metrics)[2].count("\n") == first.count("\n") and "uid" not in first


def test_the_metrics_come_whole_to_who_shut_down_writing():
    models = [{"name": f"null-{i}", "path": f"null-{i}"} for i in range(8)]  # more than is written at once
    with Measured(*models) as daemon, socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.metrics))
        s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(65536):
            answer += part
        assert len(answer) > 32768 and answer.endswith(b"# EOF\n")


def test_a_head_request_gets_no_body_of_the_metrics_either():
    with Measured() as daemon:
        for target in ("/", "/metrics"):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(daemon.metrics))
                s.sendall(f"HEAD {target} HTTP/1.1\r\n\r\n".encode())
                answer = b""
                while part := s.recv(65536):
                    answer += part
            assert answer.startswith(b"HTTP/1.1 40") and answer.endswith(b"\r\n\r\n"), answer


def test_the_socket_of_the_metrics_answers_nothing_else():
    with Measured() as daemon:
        assert stat.S_IMODE(daemon.metrics.stat().st_mode) == 0o600
        assert scrape(daemon.metrics, "/admin/v1/status")[0] == scrape(daemon.metrics, "/")[0] == 404
        assert scrape(daemon.metrics, "/metrics?name=x")[0] == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            assert scrape(daemon.metrics, method=method)[0] in (400, 405, 501), method
        assert daemon.get("/metrics")[0] == 404
        idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for s in idle:
            s.connect(str(daemon.metrics))
        assert daemon.get("/healthz")[0] == 200
        for s in idle:
            s.close()
        assert daemon.scrape()
    assert not daemon.metrics.exists()


def test_without_a_wish_there_is_no_such_socket():
    with NullDaemon() as daemon:
        assert sorted(os.listdir(daemon.folder / "run")) == ["api.sock"]


def test_a_wrong_path_of_the_metrics_leaves_no_socket_behind():
    daemon = NullDaemon()
    daemon.write_config({"default_model": "null", "listen": {"metrics": str(daemon.folder / "nowhere/metrics.sock")}})
    with pytest.raises(AssertionError, match="the daemon ended with 1"):
        daemon.start()
    assert "nowhere/metrics.sock: No such file" in daemon.log() and not os.path.exists(daemon.socket)


def test_systemd_may_pass_both_sockets():
    daemon = NullDaemon()
    (daemon.folder / "run").mkdir()
    metrics = daemon.folder / "run/m.sock"
    daemon.arguments = ["systemd-socket-activate", "-l", str(metrics), "-l", daemon.socket, "--fdname=metrics:api",
                        *daemon.arguments]
    with daemon:
        assert scrape(metrics)[0] == 200 and daemon.get("/healthz")[0] == 200
        assert scrape(daemon.socket)[0] == 404

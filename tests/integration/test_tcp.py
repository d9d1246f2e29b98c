"""Clients by TCP: their keys, the names by which they call, and what is not there for them."""

import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess

import pytest
from deepseekd import PATIENCE, until
from null_daemon import CHAT, NullDaemon, chat

ADMIN = ["/admin/v1/status", "/admin/v1/plugins", "/admin/v1/keys"]


def free_port(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as s:
        s.bind((address, 0))
        return s.getsockname()[1]


class Tcp(NullDaemon):
    def __init__(self, *models, config=None, listen=None, address="127.0.0.1"):
        self.address, self.port = address.strip("[]"), free_port(socket.AF_INET6 if "[" in address else socket.AF_INET, address.strip("[]"))
        super().__init__(*models, config={**(config or {}), "listen": {"tcp": f"{address}:{self.port}", **(listen or {})}})

    def key(self, name):
        return self.dsctl("key", "add", name)[0].strip()

    def connect(self):
        return http.client.HTTPConnection(self.address, self.port, timeout=PATIENCE)

    def ask(self, method, path, key=None, body=None, host=None, **headers):
        """Status, parsed body and headers."""
        with contextlib.closing(self.connect()) as connection:
            connection.putrequest(method, path, skip_host=host is not None)
            for one in host or []:
                connection.putheader("Host", one)
            headers.update({"Authorization": f"Bearer {key}"} if key else {})
            raw = json.dumps(body).encode() if body is not None else b""
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                connection.putheader(name, value)
            connection.endheaders(raw)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), answer.headers


@pytest.fixture
def daemon():
    with Tcp() as d:
        yield d


def test_without_listen_tcp_nobody_listens():
    with NullDaemon() as daemon:
        inodes = {os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.process.pid}/fd")}
        for table in ("tcp", "tcp6"):
            for line in open(f"/proc/{daemon.process.pid}/net/{table}").readlines()[1:]:
                assert f"socket:[{line.split()[9]}]" not in inodes


def test_a_key_is_needed_for_everything(daemon):
    key = daemon.key("laptop")
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    for bad in (None, "", "x", wrong, key + "0", key[:-1], key.upper(), "dsk-" + "0" * 8 + key[12:]):
        for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("GET", "/healthz"), ("GET", "/admin/v1/status"), ("GET", "/nothing")):
            status, answer, headers = daemon.ask(method, path, bad)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key") and headers["WWW-Authenticate"] == "Bearer"
    for _ in range(2):
        assert daemon.ask("GET", "/v1/models", key)[0] == 200
        assert daemon.ask("POST", CHAT, key, chat("tokens=3"))[1]["usage"]["completion_tokens"] == 3
        assert daemon.ask("GET", "/v1/models", **{"x-api-key": key})[0] == 200
        assert daemon.ask("GET", "/v1/models", wrong)[0] == 401


def test_the_file_of_keys_holds_hashes_and_is_for_the_daemon_alone(daemon):
    key = daemon.key("laptop")
    path = daemon.folder / "state/keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert key[13:] not in text and "$5$" in text and "laptop" in text
    assert key not in daemon.log()


def test_keys_outlive_the_daemon_and_end_when_they_are_removed(daemon):
    key, other = daemon.key("laptop"), daemon.key("ci.runner")
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.ask("GET", "/v1/models", key)[0] == daemon.ask("GET", "/v1/models", other)[0] == 200
    listed = json.loads(daemon.dsctl("key", "ls", "--json")[0])
    assert [k["name"] for k in listed] == ["laptop", "ci.runner"]
    assert daemon.dsctl("key", "ls", "--no-legend")[0].split()[0] == "laptop"
    daemon.dsctl("key", "rm", "laptop")
    assert (daemon.ask("GET", "/v1/models", key)[0], daemon.ask("GET", "/v1/models", other)[0]) == (401, 200)
    assert "no key" in daemon.dsctl("key", "rm", "laptop", code=4)[1]


def test_names_of_keys_are_names_and_each_is_there_once(daemon):
    daemon.key("laptop")
    assert "already" in daemon.dsctl("key", "add", "laptop", code=1)[1]
    for name in ("", "a b", "-x", "x" * 65, "a/b"):
        assert "64 letters" in daemon.dsctl("key", "add", "--", name, code=1)[1]
    assert [k["name"] for k in json.loads(daemon.dsctl("key", "ls", "-j")[0])] == ["laptop"]


def test_a_file_of_keys_that_is_broken_is_named_and_left_alone():
    daemon = Tcp()
    (daemon.folder / "state").mkdir()
    for text, problem in (("{", "keys.json:1:"), ('{"version": 2, "keys": []}', "version 1"), ('{"version": 1, "keys": [{"name": "a"}]}', "key 1 is malformed")):
        (daemon.folder / "state/keys.json").write_text(text)
        with pytest.raises(AssertionError, match="ended with 1"):
            daemon.start()
        assert problem in daemon.log()
        assert (daemon.folder / "state/keys.json").read_text() == text


def test_there_is_no_admin_by_tcp(daemon):
    key = daemon.key("laptop")
    absent = daemon.ask("GET", "/admin/v1/nothing", key)
    for path in ADMIN:
        status, answer, _ = daemon.ask("GET", path, key)
        assert status == absent[0] == 404 and answer["error"]["message"] == f"there is no {path} here"
    for path in ("/admin/v1/models/null/load", "/admin/v1/models/null/unload", "/admin/v1/models/null/evaluate", "/admin/v1/keys"):
        assert daemon.ask("POST", path, key, {"name": "x", "tokens": [1]})[0] == 404
    assert daemon.ask("DELETE", "/admin/v1/keys/laptop", key)[0] == 404
    assert daemon.model("null")["state"] == "absent"


def test_only_this_machines_names_are_answered(daemon):
    key = daemon.key("laptop")
    port = daemon.port
    for host in (["localhost"], [f"localhost:{port}"], ["LOCALHOST"], ["127.0.0.1"], [f"127.0.0.1:{port}"], ["localhost", "127.0.0.1"]):
        assert daemon.ask("GET", "/v1/models", key, host=host)[0] == 200, host
    for host in (["evil.example"], [f"evil.example:{port}"], ["127.0.0.2"], ["[::1]"], ["localhost.evil.example"], [""], [], ["localhost:x"],
                 ["127.0.0.1.evil.example"], ["localhost", "evil.example"], ["[127.0.0.1]"], ["0"], ["2130706433"], ["[", "localhost"],
                 ["[::1"], ["x" * 300], ["gpu.lan"]):
        status, answer, _ = daemon.ask("GET", "/v1/models", key, host=host)
        assert status == 403 and answer["error"]["code"] == "host_not_allowed", host
    assert daemon.ask("GET", "http://evil.example/v1/models", key, host=["localhost"])[0] == 403
    assert daemon.ask("GET", "http://localhost/v1/models", key, host=["localhost"])[0] == 200
    assert daemon.ask("GET", "/v1/models", host=["evil.example"])[0] == 403  # before the key is looked at
    assert daemon.get("/v1/models")[0] == 200  # by the Unix socket any name will do


def test_names_that_are_configured_are_answered_too():
    with Tcp(listen={"tcp_hosts": ["gpu.lan"]}) as daemon:
        key = daemon.key("laptop")
        assert daemon.ask("GET", "/v1/models", key, host=["gpu.lan"])[0] == daemon.ask("GET", "/v1/models", key, host=["GPU.lan:80"])[0] == 200
        assert daemon.ask("GET", "/v1/models", key, host=["other.lan"])[0] == 403


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as s:
        s.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_an_address_of_version_6_is_answered():
    with Tcp(address="[::1]") as daemon:
        key = daemon.key("laptop")
        for host, status in (("[::1]", 200), (f"[::1]:{daemon.port}", 200), ("[0:0::1]", 200), ("localhost", 200), ("[::2]", 403), ("127.0.0.1", 403)):
            assert daemon.ask("GET", "/v1/models", key, host=[host])[0] == status, host


@pytest.mark.parametrize("address", ["0.0.0.0", pytest.param("[::]", marks=pytest.mark.skipif(not has_ipv6(), reason="needs IPv6"))])
def test_a_listener_for_all_addresses_answers_to_the_one_that_was_reached(address):
    with Tcp(address=address) as daemon:
        daemon.address = "127.0.0.1"
        key = daemon.key("laptop")
        for host, status in (("127.0.0.1", 200), ("localhost", 200), ("127.0.0.2", 403), ("192.0.2.7", 403), ("evil.example", 403), ("[::]", 403)):
            assert daemon.ask("GET", "/v1/models", key, host=[host])[0] == status, host


def test_no_web_page_may_read_an_answer(daemon):
    key = daemon.key("laptop")
    for method, path in (("GET", "/v1/models"), ("OPTIONS", CHAT)):
        status, _, headers = daemon.ask(method, path, key, Origin="https://evil.example", **{"Access-Control-Request-Method": "POST"})
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert status == (200 if method == "GET" else 405)
    assert daemon.ask("OPTIONS", CHAT, Origin="https://evil.example")[0] == 401


def test_policy_is_by_the_name_of_the_key():
    models = [{"name": "public", "path": "public"}, {"name": "private", "path": "private", "access": {"keys": ["laptop"]}},
              {"name": "users", "path": "users", "access": {"users": ["*"], "groups": ["*"]}}]
    with Tcp(*models, config={"limits": {"per_user": {"max_tokens": 7}}}) as daemon:
        def see(key):
            return [m["id"] for m in daemon.ask("GET", "/v1/models", key)[1]["data"]]
        laptop, other = daemon.key("laptop"), daemon.key("other")
        assert see(laptop) == ["private", "public"] and see(other) == ["public"]
        assert daemon.ask("POST", CHAT, other, chat("tokens=1", model="private"))[0] == 404
        assert daemon.ask("POST", CHAT, laptop, chat("tokens=50", model="private"))[1]["usage"]["completion_tokens"] == 7


def test_calls_of_one_connection_may_be_of_several_keys():
    with Tcp({"name": "public", "path": "public"}, {"name": "private", "path": "private", "access": {"keys": ["laptop"]}}) as daemon:
        laptop, other = daemon.key("laptop"), daemon.key("other")
        with contextlib.closing(daemon.connect()) as connection:
            for key, count in ((laptop, 2), (other, 1), (laptop, 2), ("none", None)):
                connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
                answer = json.loads(connection.getresponse().read())
                assert len(answer["data"]) == count if count else "error" in answer


def test_a_client_that_goes_away_cancels(daemon):
    key = daemon.key("laptop")
    connection = daemon.connect()
    connection.request("POST", CHAT, json.dumps(chat("tokens=1000000 delay_us=1000", stream=True)), {"Authorization": f"Bearer {key}"})
    assert connection.getresponse().read(100)
    connection.close()
    until("the cancellation", daemon.cancelled)
    daemon.wait_idle()


def test_clients_are_bounded_and_more_wait():
    with Tcp(listen={"tcp_clients": 2}) as daemon:
        key = daemon.key("laptop")
        held = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE) as third:
            third.sendall(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
            assert daemon.get("/healthz")[0] == 200  # others are not held up
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(1)
            third.settimeout(PATIENCE)
            held.pop().close()
            assert third.recv(12) == b"HTTP/1.1 200"
        held.pop().close()


@pytest.mark.parametrize("address", ["localhost:11500", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:11500", "[::1]", "[127.0.0.1]:1", ":1", "x"])
def test_an_address_that_is_none_is_named(address):

    daemon = NullDaemon(config={"listen": {"tcp": address}})
    ran = subprocess.run([*daemon.arguments, "--check-config"], capture_output=True, text=True)
    assert ran.returncode == 1 and "listen.tcp" in ran.stderr and "127.0.0.1:11500" in ran.stderr

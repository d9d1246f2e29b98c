"""Who may use which model, and how much of it: several users at one socket."""

import contextlib
import json
import os
import subprocess

import pytest
from deepseekd import until
from null_daemon import CHAT, NullDaemon, chat

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

ALICE, BOB, TEAM = 64001, 64002, 64100  # numbers are enough: nobody needs to be in /etc/passwd
PUBLIC, PRIVATE, TEAMS = [{"name": n, "path": n} for n in ("public", "private", "teams")]
PRIVATE["access"] = {"users": [ALICE]}
TEAMS["access"] = {"groups": [str(TEAM)]}


def open_to_others(daemon):
    for folder in (daemon.folder, daemon.folder / "run"):
        os.chmod(folder, 0o755)
    return daemon


def as_user(uid, call, groups=()):
    """What call() returns as another user, with a primary group of the same number."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


@pytest.fixture
def daemon():
    with NullDaemon(PUBLIC, PRIVATE, TEAMS, config={"listen": {"mode": "0666"}}) as d:
        yield open_to_others(d)


def names(daemon):
    return [m["id"] for m in daemon.get("/v1/models")[1]["data"]]


def test_each_user_sees_the_models_that_it_may_use(daemon):
    def see():
        return names(daemon)
    assert as_user(ALICE, see) == ["private", "public"]
    assert as_user(BOB, see) == ["public"]
    assert as_user(BOB, see, groups=[TEAM]) == ["public", "teams"]
    assert as_user(TEAM, see) == ["public", "teams"]  # its primary group
    assert see() == ["private", "public", "teams"]  # root


def test_a_model_that_one_may_not_use_is_as_if_it_were_not_there(daemon):
    def all_of(name):
        return [daemon.post(CHAT, chat("tokens=1", model=name)), daemon.get(f"/v1/models/{name}"),
                daemon.post("/v1/completions", {"model": name, "prompt": "x"}), daemon.post(f"/v1/models/{name}/tokenize", {"text": "x"}),
                daemon.post(f"/v1/models/{name}/render", {"messages": []})]
    hidden, absent = as_user(BOB, lambda: all_of("private")), as_user(BOB, lambda: all_of("nothing"))
    assert [status for status, _ in hidden] == [404] * 5
    assert json.dumps(hidden).replace("private", "nothing") == json.dumps(absent)
    assert daemon.model("private")["state"] == "absent"
    assert as_user(ALICE, lambda: daemon.post(CHAT, chat("tokens=1", model="private"))[0]) == 200


def test_a_reload_changes_who_may_use_a_model_and_reads_no_weights(daemon):
    def ask():
        return daemon.post(CHAT, chat("tokens=1", model="private"))[0]
    assert (as_user(ALICE, ask), as_user(BOB, ask)) == (200, 404)
    daemon.write_model({**PRIVATE, "access": {"users": [BOB]}})
    daemon.reload()
    until("the new list", lambda: as_user(BOB, ask) == 200)
    assert as_user(ALICE, ask) == 404
    assert daemon.model("private")["loads"] == 1


def test_the_list_of_deepseekd_yaml_is_for_models_without_one():
    with NullDaemon(PUBLIC, PRIVATE, config={"listen": {"mode": "0666"}, "access": {"users": [BOB]}}) as daemon:
        open_to_others(daemon)
        assert as_user(ALICE, lambda: names(daemon)) == ["private"]
        assert as_user(BOB, lambda: names(daemon)) == ["public"]
        assert as_user(TEAM, lambda: names(daemon)) == []
        assert as_user(TEAM, lambda: daemon.post(CHAT, chat("tokens=1"))[0]) == 404  # the default model


def test_names_that_do_not_exist_are_warnings_with_their_place():
    daemon = NullDaemon({**PUBLIC, "access": {"users": ["root", "nosuchuser"], "groups": ["nosuchgroup", "7"]}},
                        config={"listen": {"group": "nosuchgroup"}})
    ran = subprocess.run([*daemon.arguments, "--check-config"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = (daemon.folder / "models.d/public.yaml").read_text().splitlines()
    user, group = (next(i for i, line in enumerate(lines, 1) if line.endswith(name)) for name in ("nosuchuser", "nosuchgroup"))
    for expected in (f"public.yaml:{user}:5: access.users: there is no user \"nosuchuser\"",
                     f"public.yaml:{group}:5: access.groups: there is no group \"nosuchgroup\"",
                     "listen.group: there is no group \"nosuchgroup\""):
        assert any(line.startswith("warning: ") and line.endswith(expected) for line in ran.stderr.splitlines()), ran.stderr
    assert "root" not in ran.stderr and "\"7\"" not in ran.stderr


@contextlib.contextmanager
def limited(**limits):
    with NullDaemon(PUBLIC, {"name": "second", "path": "second"}, config={"listen": {"mode": "0666"}, "limits": {"per_user": limits}}) as d:
        yield open_to_others(d)


class Stream:
    """A process of a user with one streamed answer that lasts until it is stopped."""

    def __init__(self, daemon, uid, model="public"):
        self.child = os.fork()
        if self.child == 0:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                daemon.open("POST", CHAT, chat("tokens=1000000 delay_us=1000", model=model, stream=True))[1].read()
            finally:
                os._exit(0)

    def stop(self):
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)


def test_one_user_runs_as_many_requests_as_the_limit_says_and_others_are_not_held_up():
    with limited(parallel=1) as daemon:
        first, second, third = Stream(daemon, ALICE), Stream(daemon, ALICE), Stream(daemon, ALICE, "second")
        until("all three", lambda: sum(daemon.status()["requests"].values()) == 3)
        until("the models", lambda: all(m["state"] == "ready" for m in daemon.status()["models"]))
        assert daemon.status()["requests"] == {"running": 1, "queued": 2}
        assert as_user(BOB, lambda: daemon.post(CHAT, chat("tokens=3"))[0]) == 200
        assert daemon.post(CHAT, chat("tokens=3"))[0] == 200
        running = {m["name"]: m["running"] for m in daemon.status()["models"]}
        # Whichever runs: when the public ones end, the one of the other model goes on.
        first.stop()
        second.stop()
        until("the third", lambda: daemon.model("second")["running"] == 1)
        assert sum(running.values()) == 1
        third.stop()
        until("idle", lambda: daemon.status()["requests"] == {"running": 0, "queued": 0})


def test_a_limit_that_a_reload_lifts_holds_nobody_any_more():
    with limited(parallel=1) as daemon:
        streams = [Stream(daemon, ALICE, "second"), Stream(daemon, ALICE)]
        until("one runs, one waits", lambda: daemon.status()["requests"] == {"running": 1, "queued": 1} and
              all(m["state"] == "ready" for m in daemon.status()["models"]))
        daemon.write_config({"default_model": "public", "listen": {"mode": "0666"}})
        daemon.reload()
        until("both run", lambda: daemon.status()["requests"] == {"running": 2, "queued": 0})
        for stream in streams:
            stream.stop()


def test_one_user_has_as_many_waiting_as_the_limit_says():
    with limited(parallel=1, queue=1) as daemon:
        streams = [Stream(daemon, ALICE)]
        daemon.wait_running(1, "public")
        streams.append(Stream(daemon, ALICE))
        until("one waits", lambda: daemon.model("public")["waiting"] == 1)
        status, answer = as_user(ALICE, lambda: daemon.post(CHAT, chat("tokens=1")))
        assert status == 429 and answer["error"]["code"] == "overloaded" and "one user" in answer["error"]["message"]
        assert as_user(BOB, lambda: daemon.post(CHAT, chat("tokens=1"))[0]) == 200
        for stream in streams:
            stream.stop()


def test_one_request_generates_as_many_tokens_as_the_limit_says():
    with limited(max_tokens=7) as daemon:
        def count(**more):
            return daemon.post(CHAT, chat("tokens=50", **more))[1]["usage"]["completion_tokens"]
        assert as_user(ALICE, count) == 7
        assert as_user(ALICE, lambda: count(max_tokens=20)) == 7
        assert as_user(ALICE, lambda: count(max_completion_tokens=3)) == 3
        assert count() == 50  # root is not limited


def test_the_socket_belongs_to_the_group_that_the_configuration_names():
    with NullDaemon(config={"listen": {"group": "games"}}) as daemon:
        open_to_others(daemon)
        assert as_user(BOB, lambda: daemon.get("/healthz")[0], groups=[60]) == 200
        with pytest.raises(ValueError):  # it could not connect, and said nothing
            as_user(BOB, lambda: daemon.get("/healthz")[0])


def test_what_is_wrong_in_a_list_is_named():
    daemon = NullDaemon(PUBLIC)
    for text, problem in [("users: '*'", "is not a list"), ("users: [1.5]", "is not a name"), ("keys: [a b]", "is not a name"), ("user: []", "did you mean")]:
        (daemon.folder / "models.d/public.yaml").write_text(f"name: public\npath: public\naccess:\n  {text}\n")
        ran = subprocess.run([*daemon.arguments, "--check-config"], capture_output=True, text=True)
        assert ran.returncode != 0 and "public.yaml:4:" in ran.stderr and problem in ran.stderr, ran.stderr

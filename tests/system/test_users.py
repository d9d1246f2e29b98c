"""Three users of the booted system: each asks in its own way, none sees what another does, and polkit decides who manages."""

import os
import pathlib
import signal
import subprocess

import pytest
from machine import ask, model, run, until

NAME, PATH = "org.deepseekd1", "/org/deepseekd1"
MANAGER, REQUEST = f"{NAME}.Manager", f"{NAME}.Request"
QUESTION = "What is 347+285?"
RULES = pathlib.Path("/etc/polkit-1/rules.d/10-deepseekd-test.rules")
PROGRAM = ("/usr/bin/python3", "-B", "/tests/ask_by_bus.py")


@pytest.fixture(scope="module", autouse=True)
def users():
    """ann and bob are like everybody, carol manages; none has a session, so polkit takes none for active."""
    run("groupadd", "--force", "--system", "deepseek-admin")
    for user, groups in (("ann", "deepseekd"), ("bob", "deepseekd"), ("carol", "deepseekd,deepseek-admin")):
        run("useradd", "--create-home", "--groups", groups, user)
    ask()


def refused(*args, user):
    """What is said to a user whose command fails."""
    ran = subprocess.run(["runuser", "-u", user, "--", *args], capture_output=True, text=True, timeout=60)
    assert ran.returncode != 0, ran.stdout
    return ran.stderr


def busctl(*args):
    return ("busctl", "--allow-interactive-authorization=no", "call", NAME, *args)


@pytest.mark.parametrize("user, command", [
    ("ann", PROGRAM + (QUESTION,)),
    ("bob", busctl(PATH, MANAGER, "Complete", "ssa{sv}", "tiny-r1", QUESTION, "1", "temperature", "d", "0")),
    ("bob", ("gdbus", "call", "--system", "-d", NAME, "-o", PATH, "-m", f"{MANAGER}.Complete", "tiny-r1", QUESTION,
             "{'temperature': <0.0>}")),
    ("carol", ("dsctl", "run", "--temperature", "0", QUESTION))], ids=["python", "busctl", "gdbus", "dsctl"])
def test_a_user_is_answered(user, command):
    assert "632" in run(*command, user=user)


@pytest.fixture
def request_of_ann():
    """A request that lasts, as its engine stands still; its path, and the program."""
    engine = model()["engine_pid"]
    os.kill(engine, signal.SIGSTOP)
    program = subprocess.Popen(["runuser", "-u", "ann", "--", *PROGRAM, QUESTION], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)
    try:
        yield program.stdout.readline().strip(), program
    finally:
        os.kill(engine, signal.SIGCONT)
        program.wait(60)


def objects(user):
    return run("gdbus", "call", "--system", "-d", NAME, "-o", PATH, "-m", "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
               user=user)


def test_a_request_is_seen_and_ended_by_its_owner_alone(request_of_ann):
    path, program = request_of_ann
    assert path.startswith(f"{PATH}/request/") and path in objects("ann") and path in objects("root")
    assert f"{PATH}/request" not in objects("bob")
    absent = path.rpartition("/")[0] + "/nothing"
    for member in (("org.freedesktop.DBus.Properties", "GetAll", "s", REQUEST), (REQUEST, "Cancel")):
        hidden, none = (refused(*busctl(p, *member), user="bob") for p in (path, absent))
        assert hidden.replace(path, absent) == none != ""
    assert program.poll() is None and path in objects("ann")
    run(*busctl(path, REQUEST, "Cancel"), user="ann")  # by another connection of hers
    assert program.wait(60) == 0 and program.stdout.read() == ""
    until("the object to go", lambda: path not in objects("root"))


def test_who_manages_may_end_requests_of_others(request_of_ann):
    path, program = request_of_ann
    run(*busctl(path, REQUEST, "Cancel"), user="carol")
    assert program.wait(60) == 0 and program.stdout.read() == ""


def test_a_client_that_leaves_the_bus_ends_its_requests(request_of_ann):
    path, program = request_of_ann
    run("pkill", "-KILL", "-u", "ann", "-f", "ask_by_bus")
    until("the object to go", lambda: path not in objects("root"))


def rule(action, user, result):
    return (f'polkit.addRule(function (action, subject) {{ if (action.id == "{NAME}.{action}" && subject.user == "{user}") '
            f'return polkit.Result.{result}; }});\n')


def load(user):
    return subprocess.run(["runuser", "-u", user, "--", *busctl(PATH, MANAGER, "LoadModel", "s", "tiny-r1")],
                          capture_output=True, text=True, timeout=60)


def test_polkit_refuses_and_grants_as_configured():
    assert "polkit wants a password" in load("bob").stderr
    assert refused("dsctl", "unload", "tiny-r1", user="bob") and model()["state"] == "ready"
    run("dsctl", "unload", "tiny-r1", user="carol")  # the vendor's rule for members of deepseek-admin
    assert model()["state"] == "absent"
    RULES.write_text(rule("load-unload", "bob", "YES") + rule("use", "ann", "NO"))
    try:
        until("the rule that grants", lambda: load("bob").returncode == 0)
        assert model()["state"] == "ready" and load("ann").returncode != 0
        complete = busctl(PATH, MANAGER, "Complete", "ssa{sv}", "tiny-r1", QUESTION, "0")
        assert "Access denied" in refused(*complete, user="ann")
        assert "632" in run(*PROGRAM, QUESTION, user="bob")
    finally:
        RULES.unlink()
    until("the rule to be gone", lambda: "polkit wants a password" in load("bob").stderr)
    assert "632" in run(*PROGRAM, QUESTION, user="ann")

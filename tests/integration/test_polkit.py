"""Who may manage the daemon over D-Bus, as a real polkitd decides."""

import json
import os
import signal
import subprocess
import sys

import pexpect
import polkit_authority
import pytest
from deepseekd import DSCTL, until
from null_daemon import NullDaemon
from polkit_authority import AUTHORITY, AUTHORITY_PATH, POLKIT, Authority, Monitor
from test_broker_bus import MANAGER, NAME, PATH, Bus

pytestmark = pytest.mark.skipif(not polkit_authority.can_run(), reason="needs root, polkitd and mount namespaces")

LOAD = "org.deepseekd1.load-unload"
NOBODY = 65534


@pytest.fixture
def bus():
    bus = Bus()
    yield bus
    bus.stop()


@pytest.fixture
def authority(bus):
    authority = Authority(bus, administrators="games")
    yield authority
    authority.stop()


@pytest.fixture
def daemon(bus, authority):
    with NullDaemon({"name": "null", "path": "null"}, {"name": "other", "path": "other"}, bus=bus.address) as d:
        until("the name", lambda: bus.get("State") == 's "running"')
        yield d


def call(bus, *what, user=NOBODY, interactive=False):
    return subprocess.run(["busctl", f"--address={bus.address}", f"--allow-interactive-authorization={'yes' if interactive else 'no'}",
                           "call", NAME, PATH, MANAGER, *what], capture_output=True, text=True, user=user, timeout=30)


def load(bus, model="null", **more):
    return call(bus, "LoadModel", "s", model, **more)


def test_without_a_rule_an_ordinary_user_is_told_that_a_password_is_wanted(bus, daemon):
    ran = load(bus)
    assert ran.returncode != 0 and "polkit wants a password" in ran.stderr
    assert daemon.model("null")["state"] == "absent"


def test_everybody_may_generate(bus, daemon):
    assert call(bus, "Generate", "ssa{sv}", "null", "tokens=1", "0").returncode == 0


def test_a_rule_grants_and_a_rule_denies(bus, authority, daemon):
    authority.allow(LOAD, "nobody")
    assert load(bus).returncode == 0
    assert daemon.model("null")["state"] == "ready"
    assert load(bus, user="daemon").returncode != 0  # the rule names another
    authority.allow("org.deepseekd1.use", "nobody", "NO")
    ran = call(bus, "Generate", "ssa{sv}", "null", "tokens=1", "0")
    assert ran.returncode != 0 and "Access denied" in ran.stderr


def test_the_group_of_administrators_needs_no_password(bus, daemon):
    assert load(bus, user="games").returncode == 0


def test_root_is_not_asked_about(bus, daemon):
    with Monitor(bus, "CheckAuthorization") as asked:
        assert load(bus, user=0).returncode == 0
        assert load(bus).returncode != 0
        until("the question about the other", asked.seen)
        assert len(asked.seen()) == 1


def test_polkit_is_told_which_model(bus, daemon):
    with Monitor(bus, "CheckAuthorization") as asked:
        load(bus, "other")
        subject, action, details, flags, _ = until("the question", asked.seen)[0]["payload"]["data"]
    assert action == LOAD and details == {"model": "other"} and flags == 0 and subject[0] == "system-bus-name"


# One connection, several calls: what is granted is remembered by the connection's name.
CALLER = """
import ctypes, sys
sd = ctypes.CDLL("libsystemd.so.0")
bus = ctypes.c_void_p()
assert sd.sd_bus_new(ctypes.byref(bus)) >= 0
sd.sd_bus_set_address(bus, sys.argv[1].encode())
sd.sd_bus_set_bus_client(bus, 1)
assert sd.sd_bus_start(bus) >= 0
for line in sys.stdin:
    r = sd.sd_bus_call_method(bus, b"org.deepseekd1", b"/org/deepseekd1", b"org.deepseekd1.Manager", b"LoadModel", None, None, b"s",
                              line.strip().encode())
    print(r >= 0, flush=True)
"""


class Caller:
    def __init__(self, bus):
        self.process = subprocess.Popen([sys.executable, "-c", CALLER, bus.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, user=NOBODY)

    def load(self, model):
        self.process.stdin.write(model + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "True"

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def test_what_was_granted_is_remembered_until_the_authority_changes(bus, authority, daemon):
    authority.allow(LOAD, "nobody")
    caller = Caller(bus)
    with Monitor(bus, "CheckAuthorization") as asked:
        assert caller.load("null") and caller.load("null") and caller.load("null")
        assert caller.load("other")
        until("a question for each model", lambda: len(asked.seen()) >= 2)
        assert [m["payload"]["data"][2]["model"] for m in asked.seen()] == ["null", "other"]
        authority.allow(LOAD, "nobody", "NO")
        until("the change to be known", lambda: not caller.load("null"))
        assert not caller.load("other")
    caller.stop()


# An agent for one process, as pkttyagent is: prints what it is asked, and answers when it is told to.
AGENT = """
import json, os, sys
import dbus, dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
address, command = sys.argv[1], sys.argv[2:]
ready, go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go)
    os.read(ready, 1)
    os.dup2(2, 1)
    os.execvp(command[0], command)
bus = dbus.bus.BusConnection(address, mainloop=DBusGMainLoop())
pending = []
class Agent(dbus.service.Object):
    @dbus.service.method("org.freedesktop.PolicyKit1.AuthenticationAgent", "sssa{ss}sa(sa{sv})", "", async_callbacks=("done", "failed"))
    def BeginAuthentication(self, action, message, icon, details, cookie, identities, done, failed):
        pending.append(done)
        print(json.dumps({"action": action, "message": message, "cookie": cookie}), flush=True)
    @dbus.service.method("org.freedesktop.PolicyKit1.AuthenticationAgent", "s", "")
    def CancelAuthentication(self, cookie):
        print(json.dumps({"cancelled": cookie}), flush=True)
agent = Agent(bus, "/agent")
start = int(open(f"/proc/{child}/stat").read().rsplit(")")[1].split()[19])
authority = bus.get_object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")
subject = ("unix-process", {"pid": dbus.UInt32(child), "start-time": dbus.UInt64(start), "uid": dbus.Int32(os.getuid())})
authority.RegisterAuthenticationAgent(subject, "C", "/agent", dbus_interface="org.freedesktop.PolicyKit1.Authority")
os.close(go)
loop = GLib.MainLoop()
def on_line(source, condition):
    word = sys.stdin.readline().strip()
    if word == "kill":
        os.kill(child, 9)
    for done in pending if word in ("done", "") else []:
        done()
    if word == "":
        loop.quit()
    return word != ""
def on_end(pid, status):
    print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
GLib.io_add_watch(0, GLib.IO_IN | GLib.IO_HUP, on_line)
GLib.child_watch_add(child, on_end)
loop.run()
"""


class Agent:
    def __init__(self, bus, *command):
        self.bus = bus
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", AGENT, bus.address, *command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, user=NOBODY)

    def next(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def authenticate(self, cookie):
        """What polkit's setuid helper says after the right password: root's word that this was root."""
        ran = self.bus.run("call", POLKIT, AUTHORITY_PATH, AUTHORITY, "AuthenticationAgentResponse2", "us(sa{sv})", str(NOBODY), cookie,
                           "unix-user", "1", "uid", "u", "0")
        assert ran.returncode == 0, ran.stderr

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


needs_agent = pytest.mark.skipif(subprocess.run(["/usr/bin/python3", "-c", "import dbus, gi"], capture_output=True).returncode != 0,
                                 reason="needs python3-dbus and python3-gi")


def agent_for(bus):
    return Agent(bus, "busctl", f"--address={bus.address}", "call", "--allow-interactive-authorization=yes", NAME, PATH, MANAGER,
                 "LoadModel", "s", "null")


@needs_agent
def test_the_dialog_names_the_model_and_the_password_grants(bus, daemon):
    agent = agent_for(bus)
    asked = agent.next()
    assert asked["action"] == LOAD and "the language model null" in asked["message"]
    agent.authenticate(asked["cookie"])
    agent.say("done")
    assert agent.next() == {"status": 0}
    assert daemon.model("null")["state"] == "ready"
    agent.stop()


@needs_agent
def test_a_dialog_that_is_dismissed_denies(bus, daemon):
    agent = agent_for(bus)
    agent.next()
    agent.say("done")
    assert agent.next() == {"status": 1}
    assert daemon.model("null")["state"] == "absent"
    agent.stop()


@needs_agent
def test_a_caller_that_leaves_closes_its_dialog(bus, daemon):
    agent = agent_for(bus)
    asked = agent.next()
    agent.say("kill")
    said = []
    while {"cancelled": asked["cookie"]} not in said or {"status": -9} not in said:  # polkit may tell it twice
        said.append(agent.next())
    agent.stop()
    assert daemon.get("/healthz")[0] == 200


@needs_agent
def test_the_daemon_may_stop_while_a_dialog_is_open(bus, daemon):
    agent = agent_for(bus)
    asked = agent.next()
    assert daemon.stop() == 0
    assert agent.next() in ({"cancelled": asked["cookie"]}, {"status": 1})
    agent.stop()


@needs_agent
def test_an_authority_that_dies_denies(bus, authority, daemon):
    agent = agent_for(bus)
    agent.next()
    authority.process.kill()
    assert agent.next() == {"status": 1}
    agent.stop()
    ran = load(bus)
    assert ran.returncode != 0 and "Access denied" in ran.stderr
    assert call(bus, "Generate", "ssa{sv}", "null", "tokens=1", "0").returncode == 0  # nobody forbids it


def test_a_daemon_that_is_not_root_may_ask_as_the_owner_of_the_actions(bus):
    authority = Authority(bus, administrators="games", owner="daemon")
    d = NullDaemon(bus=bus.address)
    for name in ("run", "state"):
        (d.folder / name).mkdir()
    subprocess.run(["chown", "-R", "daemon:", d.folder], check=True)
    d.arguments = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", *d.arguments]
    with d, Monitor(bus, "CheckAuthorization") as asked:
        until("the name", lambda: bus.get("State") == 's "running"')
        assert load(bus, user="games").returncode == 0
        assert "polkit wants a password" in load(bus).stderr
        assert load(bus, user="daemon").returncode == 0  # its own user
        until("the questions", lambda: len(asked.seen()) >= 2)
    authority.stop()


def dsctl(bus, *args, user=NOBODY):
    return subprocess.run([DSCTL, "--bus", bus.address, *args], capture_output=True, text=True, user=user, timeout=30, stdin=subprocess.DEVNULL)


def test_dsctl_manages_over_the_bus_where_polkit_allows_it(bus, authority, daemon):
    authority.allow(LOAD, "nobody")
    ran = dsctl(bus, "load", "null")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "null is ready\n")
    ran = dsctl(bus, "--json", "load", "null")
    assert json.loads(ran.stdout) == {"name": "null", "state": "ready"}
    ran = dsctl(bus, "load", "nothing")
    assert ran.returncode == 4 and 'no model "nothing"' in ran.stderr


def test_dsctl_ends_with_5_where_polkit_does_not(bus, daemon):
    for extra in ((), ("--no-ask-password",)):
        ran = dsctl(bus, *extra, "load", "null")
        assert ran.returncode == 5 and "polkit wants a password" in ran.stderr
    assert daemon.model("null")["state"] == "absent"


@pytest.mark.skipif(not os.path.exists("/usr/bin/pkttyagent"), reason="needs root, polkitd and pkttyagent")
def test_dsctl_asks_for_the_password_at_the_terminal(bus, daemon):
    # Who runs the tests in the background may have them ignore interrupts, and what they start too.
    child = pexpect.spawn("setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups", DSCTL, "--bus", bus.address, "load", "null"],
                          encoding="utf-8", timeout=30, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    child.expect(f"AUTHENTICATING FOR {LOAD}")
    child.expect("load or unload the language model null")
    child.expect("Password:")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus == 2
    assert daemon.model("null")["state"] == "absent"
    # Without a dialog there is none.
    child = pexpect.spawn("setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups", DSCTL, "--no-ask-password", "--bus", bus.address,
                                      "load", "null"], encoding="utf-8", timeout=30)
    child.expect("polkit wants a password")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5


def test_dsctl_says_so_if_no_daemon_is_on_the_bus(bus):
    ran = dsctl(bus, "load", "null")
    assert ran.returncode == 3 and "no deepseekd is on the bus" in ran.stderr
    assert dsctl(bus, "--socket", "/nowhere", "--bus", "none", "load", "null").returncode == 3


def test_keys_are_managed_over_the_bus_where_polkit_allows_it(bus, authority, daemon):
    ran = dsctl(bus, "key", "add", "laptop")
    assert ran.returncode == 5 and "settings" in ran.stderr and ran.stdout == ""
    authority.allow("org.deepseekd1.manage-config", "nobody")
    ran = dsctl(bus, "key", "add", "laptop")
    assert ran.returncode == 0 and ran.stdout.startswith("dsk-") and len(ran.stdout) == 78
    assert dsctl(bus, "key", "add", "laptop").returncode == 1
    assert dsctl(bus, "key", "add", "a b").returncode == 1
    listed = json.loads(dsctl(bus, "key", "ls", "-j").stdout)
    assert [key["name"] for key in listed] == ["laptop"] and listed[0]["created"] > 1e9
    assert dsctl(bus, "key", "rm", "laptop").returncode == 0
    assert dsctl(bus, "key", "rm", "laptop").returncode == 4
    assert dsctl(bus, "key", "ls", "--no-legend").stdout == ""

"""A real polkitd on a private bus, with this project's actions and rules alone, in a mount namespace of its own."""

import json
import os
import pathlib
import shutil
import subprocess

from deepseekd import STAGE, until

POLKITD = "/usr/lib/polkit-1/polkitd"
POLKIT, AUTHORITY_PATH = "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority"
AUTHORITY = POLKIT + ".Authority"
SCRIPT = """
mount --bind "$1/actions" /usr/share/polkit-1/actions && mount --bind "$1/vendor-rules" /usr/share/polkit-1/rules.d &&
mount --bind "$1/rules" /etc/polkit-1/rules.d && mount --bind "$1/group" /etc/group && exec "$2" --no-debug
"""


def can_run():
    """Root, a polkitd, and a kernel that gives mount namespaces."""
    return (os.geteuid() == 0 and os.path.exists(POLKITD) and
            subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0)


class Authority:
    def __init__(self, bus, administrators="", owner="deepseekd"):
        """@administrators: members of the group deepseek-admin. @owner: the user who may ask about others."""
        self.bus = bus
        self.folder = bus.folder / "polkit"
        self.folder.mkdir(mode=0o755)
        for name in ("actions", "vendor-rules", "rules"):
            (self.folder / name).mkdir(mode=0o755)
        policy = (STAGE / "share/polkit-1/actions/org.deepseekd1.policy").read_text()
        assert "unix-user:deepseekd" in policy
        (self.folder / "actions/org.deepseekd1.policy").write_text(policy.replace("unix-user:deepseekd", f"unix-user:{owner}"))
        shutil.copy(STAGE / "share/polkit-1/rules.d/50-deepseekd.rules", self.folder / "vendor-rules")
        (self.folder / "group").write_text(pathlib.Path("/etc/group").read_text() + f"deepseek-admin:x:64999:{administrators}\n")
        self.process = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh", self.folder, POLKITD],
                                        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address},
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("polkitd", lambda: bus.run("get-property", POLKIT, AUTHORITY_PATH, AUTHORITY, "BackendName").returncode == 0)

    def allow(self, action, user, result="YES"):
        """One rule; polkitd sees the new file and says Changed, which the bus then passes to everybody."""
        with Monitor(self.bus, member="Changed") as changed:
            (self.folder / "rules/10-test.rules").write_text(
                f'polkit.addRule(function (action, subject) {{ if (action.id == "{action}" && subject.user == "{user}") '
                f'return polkit.Result.{result}; }});')
            until("polkitd to read the rule", changed.seen)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Monitor:
    """What passes on the bus from or to polkit."""

    def __init__(self, bus, member):
        self.bus, self.member = bus, member

    def __enter__(self):
        self.path = self.bus.folder / f"monitor-{self.member}"
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(["busctl", f"--address={self.bus.address}", "--json=short", "monitor",
                                             f"--match=interface='{AUTHORITY}',member='{self.member}'"],
                                            stdout=out, stderr=subprocess.PIPE)
        self.process.stderr.readline()  # "Monitoring bus message stream."
        return self

    def seen(self):
        lines = self.path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()

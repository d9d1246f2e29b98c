"""A private bus, and clients on it by GDBus; as root, clients that are other users."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import gi
from deepseekd import PATIENCE

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME, PATH = "org.deepseekd1", "/org/deepseekd1"
KEYS, MANAGER, MODEL, REQUEST = f"{NAME}.Keys", f"{NAME}.Manager", f"{NAME}.Model", f"{NAME}.Request"
PROPERTIES, OBJECTS = "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.ObjectManager"
# What the system's bus allows by default, and nobody hears what is meant for others.
CONFIG = """<busconfig><type>system</type><listen>unix:path={}</listen><policy context="default">
<allow user="*"/><allow send_destination="*"/><allow receive_type="method_call"/><allow receive_type="method_return"/>
<allow receive_type="error"/><allow receive_type="signal"/><allow own="*"/></policy></busconfig>"""


class Bus:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dsd-bus-"))
        self.folder.chmod(0o755)
        self.address = f"unix:path={self.folder}/bus"
        (self.folder / "bus.conf").write_text(CONFIG.format(self.folder / "bus"))
        self.process = subprocess.Popen(["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--print-address"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline()  # it listens

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)

    def run(self, *args, **more):
        return subprocess.run(["busctl", f"--address={self.address}", *args], capture_output=True, text=True, timeout=PATIENCE,
                              **more)

    def call(self, method, *args, **more):
        return self.run("call", NAME, PATH, MANAGER, method, *args, **more)

    def get(self, name):
        return self.run("get-property", NAME, PATH, MANAGER, name).stdout.strip()


class Failure(Exception):
    """An error of a call: its name, and the sentence."""

    def __init__(self, error):
        self.name = Gio.DBusError.get_remote_error(error)
        Gio.DBusError.strip_remote_error(error)
        super().__init__(error.message)


class Client:
    """A connection, of another user with @uid. Signals it received are in .signals: (path, interface, name, arguments)."""

    def __init__(self, address, uid=None):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        if uid is not None:
            os.seteuid(uid)
        try:
            self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        finally:
            if uid is not None:
                os.seteuid(0)
        self.name = self.connection.get_unique_name()
        self.signals = []
        self.connection.signal_subscribe(NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, self._on_signal)

    def _on_signal(self, connection, sender, path, interface, name, arguments):
        self.signals.append((path, interface, name, arguments.unpack()))

    def named(self, name):
        """The signals called @name so far."""
        while GLib.MainContext.default().iteration(False):
            pass
        return [s for s in self.signals if s[2] == name]

    def close(self):
        self.connection.close_sync(None)

    def call_with_fds(self, path, interface, method, types="()", *args):
        try:
            reply, fds = self.connection.call_with_unix_fd_list_sync(
                NAME, path, interface, method, GLib.Variant(types, args), None, Gio.DBusCallFlags.NONE, PATIENCE * 1000, None, None)
        except GLib.Error as error:
            raise Failure(error) from None
        return reply.unpack(), fds

    def call(self, path, interface, method, types="()", *args):
        return self.call_with_fds(path, interface, method, types, *args)[0]

    def manager(self, method, types="()", *args):
        return self.call(PATH, MANAGER, method, types, *args)

    def get(self, path, interface, name):
        return self.call(path, PROPERTIES, "Get", "(ss)", interface, name)[0]

    def get_all(self, path, interface):
        return self.call(path, PROPERTIES, "GetAll", "(s)", interface)[0]

    def objects(self):
        return self.call(PATH, OBJECTS, "GetManagedObjects")[0]

    def requests(self):
        return [path for path, interfaces in self.objects().items() if REQUEST in interfaces]

    def complete(self, prompt, model="null", **options):
        return self.manager("Complete", "(ssa{sv})", model, prompt, variants(options))

    def generate(self, prompt, model="null", **options):
        """The path of the request, and its stream."""
        (path, _), fds = self.call_with_fds(PATH, MANAGER, "Generate", "(ssa{sv})", model, prompt, variants(options))
        return path, os.fdopen(fds.get(0), "rb")

    def request_path(self, token):
        return f"{PATH}/request/{self.name[1:].replace('.', '_')}/{token}"


def variants(options):
    """Options as (type, value), or text."""
    return {name: GLib.Variant(*(value if isinstance(value, tuple) else ("s", value))) for name, value in options.items()}

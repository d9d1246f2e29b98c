"""The machine goes to sleep and wakes: this file is logind, by sd-bus itself since descriptors are handed over."""

import ctypes
import json
import os
import select

import pytest
from deepseekd import Connection, until
from null_daemon import CHAT, NullDaemon, chat
from test_broker_bus import Bus

LOGIND = b"org.freedesktop.login1"
OBJECT, MANAGER = b"/org/freedesktop/login1", b"org.freedesktop.login1.Manager"


class Logind:
    def __init__(self, address):
        self.sd = ctypes.CDLL("libsystemd.so.0")
        self.bus = ctypes.c_void_p()
        assert self.sd.sd_bus_new(ctypes.byref(self.bus)) >= 0
        self.sd.sd_bus_set_address(self.bus, address.encode())
        self.sd.sd_bus_set_bus_client(self.bus, 1)
        assert self.sd.sd_bus_start(self.bus) >= 0
        assert self.sd.sd_bus_request_name(self.bus, LOGIND, ctypes.c_uint64(0)) >= 0
        self.locks = []  # our ends of the pipes: at their end the lock is released

    def serve(self):
        """Answer who asks for a lock."""
        message = ctypes.c_void_p()
        while self.sd.sd_bus_process(self.bus, ctypes.byref(message)) > 0:
            if message.value and self.sd.sd_bus_message_is_method_call(message, MANAGER, b"Inhibit") > 0:
                ours, theirs = os.pipe()
                self.sd.sd_bus_reply_method_return(message, b"h", ctypes.c_int(theirs))
                os.close(theirs)
                self.locks.append(ours)
            if message.value:
                self.sd.sd_bus_message_unref(message)
        return self.locks

    def say(self, begins):
        assert self.sd.sd_bus_emit_signal(self.bus, OBJECT, MANAGER, b"PrepareForSleep", b"b", ctypes.c_int(begins)) >= 0
        self.sd.sd_bus_flush(self.bus)

    def is_released(self, lock):
        return bool(select.select([lock], [], [], 0)[0]) and os.read(lock, 1) == b""

    def stop(self):
        self.sd.sd_bus_flush_close_unref(self.bus)
        for lock in self.locks:
            os.close(lock)


@pytest.fixture
def logind():
    bus = Bus()
    logind = Logind(bus.address)
    logind.address = bus.address
    yield logind
    logind.stop()
    bus.stop()


def test_before_sleep_answers_come_to_their_end_and_new_ones_wait_until_the_machine_wakes(logind):
    with NullDaemon(bus=logind.address) as daemon:
        daemon.load("null")
        first, = until("the lock", logind.serve)
        running = daemon.open("POST", CHAT, {**chat("tokens=1000000 delay_us=1000"), "stream": True})
        daemon.wait_running(1)
        logind.say(True)
        until("sleep", lambda: "goes to sleep" in daemon.log())
        waiting = Connection(daemon.socket)
        waiting.request("POST", CHAT, json.dumps(chat("tokens=1")), {"Content-Type": "application/json"})
        until("one that waits", lambda: daemon.model("null")["waiting"] == 1)
        until("the lock to be released although one still runs", lambda: logind.is_released(first))
        assert daemon.model("null")["running"] == 1 and daemon.model("null")["waiting"] == 1
        logind.say(False)
        assert waiting.getresponse().status == 200
        waiting.close()
        until("another lock", lambda: len(logind.serve()) == 2)
        assert not logind.is_released(logind.locks[1])
        running[1].close()
        running[0].close()
        daemon.wait_idle()
        logind.say(True)
        until("the lock to be released at once", lambda: logind.is_released(logind.locks[1]))
        logind.say(False)
        assert daemon.post(CHAT, chat("tokens=1"))[0] == 200

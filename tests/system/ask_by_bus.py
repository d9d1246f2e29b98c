"""What a user's own program looks like: asks, says the path of its request, and writes the answer as it comes.

    ask_by_bus.py QUESTION
"""

import os
import sys

import dbus

bus = dbus.SystemBus()
manager = dbus.Interface(bus.get_object("org.deepseekd1", "/org/deepseekd1"), "org.deepseekd1.Manager")
path, stream = manager.Generate("tiny-r1", sys.argv[1], {"temperature": 0.0})
print(path, flush=True)
with os.fdopen(stream.take(), "rb") as answer:
    sys.stdout.buffer.write(answer.read())

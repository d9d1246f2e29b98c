"""with_daemon.py COMMAND...: runs the command with DEEPSEEKD_SOCKET naming a daemon that has the bundled model loaded."""

import os
import subprocess
import sys

from deepseekd import Deepseekd

with Deepseekd("tiny-r1") as daemon:
    daemon.load("tiny-r1")
    ended = subprocess.run(sys.argv[1:], env={**os.environ, "DEEPSEEKD_SOCKET": daemon.socket})
    if ended.returncode:
        print(daemon.log(), file=sys.stderr)
sys.exit(ended.returncode)

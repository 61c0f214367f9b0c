"""`python -m zhumo.deploy BUNDLE...`: the server for a parent process, on a free port of loopback.

It ends when its standard input does, so it never outlives the parent that asks it.
"""

import os
import signal
import sys
import threading

from zhumo.deploy.server import serve


def _end_with_the_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=_end_with_the_parent, daemon=True).start()
serve(sys.argv[1:], port=0)

"""`python -m zhumo.deploy.nursery FD`: has imported all that an engine needs and forks one for each socket it is sent.

A new engine is there in milliseconds, where an import of torch takes seconds. This process never computes anything, so
no thread and no lock of a library is in the way of a fork. A service manager tells every process of a server to stop;
who ends an engine is the server alone, by closing its end of the socket.
"""

import asyncio
import logging
import os
import signal
import socket
import sys

from zhumo.deploy.engine import serve_end
from zhumo.tasks import TASKS, task_class

DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

log = logging.getLogger("zhumo.serve")


def main(control: socket.socket) -> None:
    """Fork an engine for each socket that comes, until nobody is left to send one."""
    for name in TASKS:
        task_class(name)  # imports it
    for number in DEAF:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    while True:
        said, ends, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            return
        if os.fork() == 0:
            control.close()
            engine(socket.socket(fileno=ends[0]))
        os.close(ends[0])


def engine(end: socket.socket) -> None:
    """Be an engine until the server has gone. A model in the middle of a step is not waited for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        asyncio.run(serve_end(end))
    except Exception:
        log.exception("the engine ended")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

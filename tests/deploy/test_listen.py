"""Answers leave at once: the connections a server accepts do not wait to fill a packet (Nagle)."""

import socket

from zhumo.deploy import server


def test_accepted_connections_do_not_wait() -> None:
    with server._listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

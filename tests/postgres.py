"""A real PostgreSQL server, which a test starts as a user of its own and stops again."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-the-test"


@contextmanager
def running() -> Iterator[str]:
    """A server that takes the password of PGPASSWORD; gives its address without a database."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    home, user = Path(tempfile.mkdtemp(prefix="zhumo-pg-")), owner()
    (home / "password").write_text(PASSWORD)
    for path in (home, home / "password"):
        if user is not None:
            shutil.chown(path, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = [folder / "initdb", "-D", home / "data", "-U", "zhumo", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
    subprocess.run([*begin, f"--pwfile={home}/password"], user=user, cwd=home, check=True, stdout=subprocess.DEVNULL)
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": home, "fsync": "off"}
    command = [folder / "postgres", "-D", home / "data", *(f"--{name}={value}" for name, value in options.items())]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, user=user, cwd=home, stdout=log, stderr=log)
    os.environ["PGPASSWORD"] = PASSWORD
    address = f"postgres://zhumo@127.0.0.1:{port}"
    try:
        _wait(address)
        yield address
    finally:
        del os.environ["PGPASSWORD"]
        process.terminate()
        process.wait()
        shutil.rmtree(home)


def binaries() -> Path | None:
    """Where Debian and others keep the server; `postgres` itself is seldom on the path."""
    found = [Path(name).parent for name in (shutil.which("initdb"),) if name]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists()), None)


def owner() -> str | None:
    """The server refuses to run as root; then it runs as the user of Debian's package."""
    if os.geteuid() != 0:
        return None
    return next((user.pw_name for user in pwd.getpwall() if user.pw_name == "postgres"), "nobody")


def _wait(address: str) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"{address}/postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return

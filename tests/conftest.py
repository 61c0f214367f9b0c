"""What every test process has: one torch thread, no network past loopback, the shared data where it is there."""

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test module can import torch: two test workers on two cores must not fight over threads.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["ZHUMO_LANG"] = "en"

# How long an example takes says how busy a machine is; it is no failure.
settings.register_profile("zhumo", deadline=None)
settings.load_profile("zhumo")


_guarded = False


def _stay_home(event: str, arguments: tuple[object, ...]) -> None:
    if not _guarded or event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        return
    address = arguments[1] if event != "socket.getaddrinfo" else arguments
    if not isinstance(address, tuple):
        return  # a path: a socket of this machine
    host = address[0]
    if host in (None, "", "localhost", "0.0.0.0", "::"):
        return
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        home = ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        home = False
    if not home:
        raise AssertionError(f"a test that is not marked `net` reached for {text}")


sys.addaudithook(_stay_home)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail any test not marked `net` that reaches past loopback."""
    global _guarded
    _guarded = request.node.get_closest_marker("net") is None
    yield
    _guarded = False


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data sets."""
    folder = os.environ.get("ZHUMO_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ZHUMO_DATA is not set to the folder of shared data sets")
    return Path(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where skips are strict, as in CI, a skip that `may_skip.txt` does not list fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("ZHUMO_STRICT_SKIPS") or reporter is None or hasattr(session.config, "workerinput"):
        return
    allowed = (Path(__file__).parent / "may_skip.txt").read_text(encoding="utf-8").split()
    forbidden = [report.nodeid for report in reporter.stats.get("skipped", []) if report.nodeid not in allowed]
    if forbidden:
        reporter.write_line(f"skipped, and not listed in tests/may_skip.txt: {', '.join(forbidden)}", red=True)
        session.exitstatus = 1

"""Sources by name: paths, pinned wheels through the real pip and a folder of our own wheels, the hub on loopback."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zhumo.errors import SourceError
from zhumo.sources import CATALOGUE, GROUPS, cache_folder, catalogue, fetch, fingerprint, licence_of, open_rows, pull
from zhumo.sources.cache import cached
from zhumo.sources.catalogue import WHEELS
from zhumo.words import LANGUAGES

CSV = b"user,item\n1,2\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("ZHUMO_CACHE", str(tmp_path / "cache"))
    return folder


def pack(folder: Path, files: dict[str, bytes], package: str = "demo_data", tag: str = "py3-none-any") -> str:
    """Write a wheel of these files that no Python is new enough for; its sha256."""
    path, info = folder / f"{package}-1.0-{tag}.whl", f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        facts = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Python: <3\n"
        archive.writestr(f"{info}/METADATA", facts)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
        for name, content in files.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def failure(source: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetch(source)
    assert all(caught.value.say(language) for language in LANGUAGES)
    return caught.value


def test_a_wheel_is_downloaded_once_and_read_as_data(index: Path, tmp_path: Path) -> None:
    code = {"demo_data/__init__.py": b"raise SystemExit", "demo_data/x.so.1": b""}
    sha = pack(index, {"demo_data/rows.csv": CSV, **code})
    source = f"pypi:demo-data==1.0/demo_data/rows.csv#sha256={sha}"
    rows = open_rows(source)
    assert [result.row for result in rows if hasattr(result, "row")] == [{"user": "1", "item": "2"}]
    assert rows.fingerprint == {source: hashlib.sha256(CSV).hexdigest()}
    names = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {"rows.csv", "METADATA", "manifest.json"} <= names
    assert not names & {"__init__.py", "x.so.1", "demo_data-1.0-py3-none-any.whl", "pip.log"}
    (index / "demo_data-1.0-py3-none-any.whl").unlink()
    assert fetch(source).read_bytes() == CSV
    folder = fetch(f"pypi:demo-data==1.0/demo_data#sha256={sha}")
    assert [path.name for path in folder.iterdir()] == ["rows.csv"]


def test_a_relative_cache_will_do(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = pack(index, {"demo_data/rows.csv": CSV})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZHUMO_CACHE", "carried")
    assert fetch(f"pypi:demo-data==1.0/demo_data/rows.csv#sha256={sha}").is_relative_to(tmp_path / "carried")


def test_another_wheel_than_the_pinned_one_is_thrown_away(index: Path, tmp_path: Path) -> None:
    pack(index, {"demo_data/rows.csv": CSV})
    error = failure(f"pypi:demo-data==1.0/demo_data/rows.csv#sha256={'0' * 64}")
    assert error.key == "error.sources.wrong_hash"
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_source_package_is_never_taken(index: Path, tmp_path: Path) -> None:
    proof = tmp_path / "setup.py ran"
    setup = f"open({str(proof)!r}, 'w')\nfrom setuptools import setup\nsetup(name='demo-data', version='1.0')".encode()
    path = index / "demo_data-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("demo_data-1.0/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    assert failure(f"pypi:demo-data==1.0/x#sha256={sha}").key == "error.sources.not_downloaded"
    assert not proof.exists()


def test_without_a_network_it_says_what_is_missing_and_how_to_bring_it(index: Path) -> None:
    error = failure("movielens-100k")
    for language in LANGUAGES:
        said = error.say(language)
        assert all(word in said for word in ("recbole==1.2.1", "zhumo pull movielens-100k --to DIR", "ZHUMO_CACHE=DIR"))
    assert "No matching distribution" in error.say("en")


def test_a_file_that_is_not_in_the_wheel_is_named_with_its_nearest(index: Path) -> None:
    sha = pack(index, {"demo_data/rows.csv": CSV})
    error = failure(f"pypi:demo-data==1.0/demo_data/row.csv#sha256={sha}")
    assert error.key == "error.sources.not_inside" and error.facts["near"] == "demo_data/rows.csv"
    assert failure(f"pypi:demo-data==1.0/../../../index#sha256={sha}").key == "error.sources.not_inside"


def test_what_lies_damaged_in_the_cache_is_fetched_again(index: Path) -> None:
    sha = pack(index, {"demo_data/rows.csv": CSV})
    source = f"pypi:demo-data==1.0/demo_data/rows.csv#sha256={sha}"
    fetch(source).write_bytes(CSV[:-1])
    assert fetch(source).read_bytes() == CSV
    fetch(source).write_bytes(CSV.replace(b"1", b"7"))
    assert fetch(source).read_bytes() != CSV  # the size is right
    assert fetch(source, verify=True).read_bytes() == CSV


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("pypi:demo-data==1.0/x.csv", "no_hash"),
        ("pypi:demo-data/x.csv", "grammar"),
        ("pypi:demo-data==1.0/x.csv#sha256=12", "grammar"),
        ("pypi:--index-url==1.0/x", "grammar"),
        ("hf:name", "grammar"),
        ("hf:owner/name/../../x.json", "grammar"),
        ("hf:owner/name/pytorch_model.bin", "unsafe_kind"),
        ("hf:owner/name/model.pkl", "unsafe_kind"),
        ("https://example.com/a.csv", "url"),
        ("no_such_file_at_all.csv", "missing"),
        ("", "missing"),
    ],
)
def test_what_is_no_source_says_so(source: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure(source).key == f"error.sources.{key}"


def test_a_missing_path_is_told_its_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/orders.csv").write_bytes(CSV)
    assert failure("data/order.csv").facts["near"] == "data/orders.csv"
    assert failure("sqlite:data/orders.cvs?SELECT 1").facts["near"] == "data/orders.csv"
    assert failure("movielens-100").facts["near"] == "movielens-100k"
    assert failure("dato").facts["near"] == "data"


@pytest.mark.usefixtures("index")
def test_the_catalogue_comes_before_a_path_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("adult").write_bytes(CSV)
    assert failure("adult").key == "error.sources.not_downloaded"
    assert fetch("./adult").read_bytes() == CSV


def test_the_cache_folder_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHUMO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache/zhumo"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/zhumo")
    monkeypatch.setenv("ZHUMO_CACHE", "/y")
    assert cache_folder() == Path("/y")


def test_the_catalogue_is_whole() -> None:
    assert {entry.name for entry, here in catalogue(Path("/nowhere")) if not here} == set(CATALOGUE)
    assert all(name in CATALOGUE for names in GROUPS.values() for name in names)
    for entry in CATALOGUE.values():
        assert licence_of(entry.name) == licence_of(next(iter(entry.files.values()))) == entry.licence
        assert all(source.partition("/")[0].removeprefix("pypi:") in WHEELS for source in entry.files.values())
        assert entry.about("en") != entry.about("zh")


FILL = """
import sys, time
from pathlib import Path
from zhumo.sources.cache import cached
def fill(folder):
    for part in range(20):
        (folder / str(part)).write_text(sys.argv[2])
        time.sleep(0.02)
    print("filled")
print(len(list(cached(Path(sys.argv[1]), "a/b", fill).iterdir())))
"""


def test_processes_that_want_the_same_thing_fetch_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    said = sorted(worker.communicate()[0] for worker in workers)
    assert said == ["20\n"] * 3 + ["filled\n20\n"]
    assert len({path.read_text() for path in (tmp_path / "a/b/files").iterdir()}) == 1


def test_a_killed_download_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", FILL.replace("0.02", "60"), str(tmp_path), "half"])
    half = tmp_path / "a/.b.part/files/0"
    while not half.exists():
        assert worker.poll() is None
    worker.kill()
    worker.wait()
    folder = cached(tmp_path, "a/b", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_a_cache_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    cached(tmp_path, "a/b", lambda folder: (folder / "x").touch())
    (tmp_path / "a/.b.lock").unlink()
    assert cached(tmp_path, "a/b", lambda folder: pytest.fail("filled again")).is_dir()
    assert not (tmp_path / "a/.b.lock").exists()


HUB = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"\0" * 1_000,
    "pytorch_model.bin": b"pickle",
    "data/rows.jsonl": b'{"a": 1}\n',
    "README.md": b"---\nlicense: mit\n---\n",
}
COMMIT = "0123456789012345678901234567890123456789"


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download asks for."""

    def do_GET(self) -> None:
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        if self.path.startswith(("/api/models/owner/name", "/api/datasets/owner/name")):
            tree = [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in HUB.items()]
            siblings = [{"rfilename": path} for path in HUB]
            whole = {"id": "owner/name", "sha": COMMIT, "siblings": siblings}
            self._reply(200, json.dumps(tree if "/tree/" in self.path else whole).encode())
        else:
            self._reply(200 if name in HUB else 404, HUB.get(name, b""))

    do_HEAD = do_GET

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Error-Code", "EntryNotFound" if status == 404 else "")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the library asks a hub on loopback; it reads it when imported, so in another process."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "ZHUMO_CACHE": str(tmp_path / "cache"),
        }
        server.shutdown()


def fetched(source: str, environment: dict[str, str]) -> str:
    code = "import sys; from zhumo.sources import fetch, licence_of; print(fetch(sys.argv[1]), licence_of(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, source], env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_a_model_of_the_hub_without_its_pickles(hub: dict[str, str]) -> None:
    said = fetched("hf:owner/name", hub)
    path, licence = said.split()[:2]
    assert "Licence of hf:owner/name: mit" in said
    names = sorted(file.relative_to(path).as_posix() for file in Path(path).rglob("*") if file.is_file())
    assert names == ["README.md", "config.json", "model.safetensors"]
    assert licence == "mit"
    hub["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert fetched("hf:owner/name", hub) == f"{path} mit\n"
    assert "zhumo pull hf:owner/other --to DIR" in fetched("hf:owner/other", hub)


def test_one_file_of_the_hub(hub: dict[str, str]) -> None:
    path = Path(fetched("hf:datasets/owner/name/data/rows.jsonl", hub).split()[0])
    assert path.read_bytes() == b'{"a": 1}\n'
    assert "hf:owner/name/missing.json holds no missing.json" in fetched("hf:owner/name/missing.json", hub)


@pytest.mark.net
def test_every_pinned_wheel_of_the_catalogue_really_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = pull("all", tmp_path)
    assert all(here for _, here in catalogue(tmp_path))
    by_name = dict(zip(CATALOGUE, paths, strict=True))
    assert sorted(path.name for path in by_name["multilingual-e5-small"].iterdir()) == [
        "NOTICE", "e5-small-q4.bin", "tokenizer.json"
    ]  # fmt: skip
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in by_name["minilm"].iterdir()}
    assert by_name["smollm2-135m-instruct"].suffix == ".gguf"
    said = capsys.readouterr().err
    assert all(f"Licence of {name}" in said for name in CATALOGUE)
    pull("demo", tmp_path)
    assert "Licence" not in capsys.readouterr().err


AIR_GAPPED = """
import json
from zhumo.sources import open_rows, fetch
counts = {name: sum(1 for _ in open_rows(name)) for name in ("movielens-100k", "movielens-100k-items")}
print(json.dumps(counts))
"""


@pytest.mark.net
def test_what_was_pulled_elsewhere_is_used_without_a_network(tmp_path: Path) -> None:
    pull("demo", tmp_path / "carried")
    environment = {**os.environ, "ZHUMO_CACHE": str(tmp_path / "carried"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    can_seal = subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    sealed = ["unshare", "-rn"] if can_seal else []
    done = subprocess.run([*sealed, sys.executable, "-c", AIR_GAPPED], env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"movielens-100k": 100_000, "movielens-100k-items": 1_682}, done.stderr


def test_a_fingerprint_of_a_folder_names_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHUMO_CACHE", str(tmp_path))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.txt").write_text("x")
    assert fingerprint(str(tmp_path / "own")) == {f"{tmp_path}/own/a.txt": hashlib.sha256(b"x").hexdigest()}

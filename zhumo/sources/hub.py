"""Files from the Hugging Face Hub, or the mirror that `HF_ENDPOINT` names: weights and data, never code or pickle."""

import os
import re
import shutil
from pathlib import Path

from zhumo.errors import SourceError
from zhumo.sources.cache import cached

SOURCE = re.compile(r"hf:(?P<data>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<path>[\w./ -]+))?")
MODEL = ("*.safetensors", "*.json", "*.txt", "*.jinja", "README.md", "LICENSE*")
DATA = ("*.jsonl", "*.jsonl.gz", "*.json", "*.csv", "*.csv.gz", "*.tsv", "*.parquet", "*.txt", "README.md", "LICENSE*")
SAFE = re.compile(r".*\.(safetensors|gguf|json|jinja|txt|md|jsonl|csv|tsv|parquet)(\.gz)?|[^.]*")


def fetch_hub(source: str, cache: Path, *, verify: bool = False) -> Path:
    """`hf:owner/name` as a folder, `hf:owner/name/path` as that file or folder; `hf:datasets/owner/name` for data sets.

    What is once in the cache is used as it is, whatever the Hub has since.

    Raises:
        SourceError: it cannot be had, or is of a kind that may hold code.
    """
    match = SOURCE.fullmatch(source)
    if match is None or ".." in source:
        raise SourceError("sources.grammar", source=source)
    repo, path = match["repo"], (match["path"] or "").strip("/")
    if not SAFE.fullmatch(path.rpartition("/")[2]):
        raise SourceError("sources.unsafe_kind", source=source)
    wanted = list(DATA if match["data"] else MODEL)
    if path:
        wanted = [path, *(f"{path}/{pattern}" for pattern in wanted)]

    def fill(folder: Path) -> None:
        _download(source, repo, "dataset" if match["data"] else "model", wanted, folder)
        if not (folder / path).exists():
            raise SourceError("sources.not_inside", source=source, inner=path, near="")

    key = "hub/" + source.removeprefix("hf:").replace("/", "--")
    return cached(cache, key, fill, verify=verify) / path


def _download(source: str, repo: str, kind: str, wanted: list[str], folder: Path) -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the library is imported
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repo, repo_type=kind, local_dir=folder, allow_patterns=wanted)
    except Exception as error:  # those of an HTTP client, which is another one from version to version
        problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SourceError("sources.not_downloaded", source=source, wheel=repo, problem=problem) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def licence_of_hub(folder: Path) -> str | None:
    """What the model card beside the files says."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:10_000] if card.is_file() else ""
    found = re.search(r"(?m)^license:\s*(\S+)", text)
    return found[1] if found else None

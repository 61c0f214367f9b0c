"""Knowledge on a real disk: what changed is read, what is gone is gone, and nobody sees what is not theirs."""

import hashlib
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from zhumo.errors import SourceError
from zhumo.support.knowledge import Knowledge, Synced

WIDTH = 8


class Encoder:
    """Vectors that are another for each text, and a list of what was asked."""

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        assert len(texts) <= 64
        return np.stack([self.one(text) for text in texts])

    def one(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256((self.salt + text).encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def counts(synced: Synced) -> tuple[int, ...]:
    """same, new, changed, gone, bad."""
    return synced.same, synced.new, synced.changed, synced.gone, synced.bad


def texts(knowledge: Knowledge, *labels: str) -> list[str]:
    return [passage.text for passage in knowledge.known(labels).passages]


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    return Knowledge(tmp_path / "knowledge.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", a="# A\nFirst text.", b="# B\n## C\nSecond text.", sub__c="Third text.")


def test_only_what_changed_is_read_and_encoded(knowledge: Knowledge, folder: Path) -> None:
    encoder = Encoder()
    assert counts(knowledge.sync(folder, encoder, encoder="e")) == (0, 3, 0, 0, 0)
    assert encoder.asked == [
        "A\nFirst text.", "A: First text.", "B > C\nSecond text.", "C: Second text.", "Third text.", "Third text.",
    ]  # fmt: skip
    version = knowledge.version
    encoder.asked.clear()
    seen: list[tuple[int, int]] = []
    assert counts(knowledge.sync(folder, encoder, encoder="e", progress=lambda *at: seen.append(at))) == (3, 0, 0, 0, 0)
    assert encoder.asked == [] and knowledge.version == version and seen[-1] == (3, 3)
    write(folder, b="# B\nOther text.", d="Fourth.")
    (folder / "a.md").unlink()
    (folder / "e.pdf").write_bytes(b"")
    synced = knowledge.sync(folder, encoder, encoder="e")
    assert counts(synced) == (1, 1, 1, 1, 1) and (synced.kept, synced.merged) == (3, 0)
    assert [bad.path for bad in synced.problems] == ["e.pdf"]
    assert encoder.asked == ["B\nOther text.", "B: Other text.", "Fourth."] and knowledge.version > version
    known = knowledge.known(None)
    passages, vectors = known.passages, known.vectors
    assert [(passage.file, passage.headings) for passage in passages] == [
        ("b.md", ("B",)),
        ("d.md", ()),
        ("sub/c.md", ()),
    ]
    assert vectors.dtype == np.float32 and vectors.flags.writeable
    assert np.array_equal(vectors, [encoder.one(passage.full) for passage in passages])


def test_another_encoder_means_other_vectors_for_all(knowledge: Knowledge, folder: Path) -> None:
    knowledge.sync(folder, Encoder(), encoder="old")
    knowledge.add("up.txt", b"Uploaded.", Encoder(), encoder="old")
    new = Encoder("new")
    write(folder, a="Changed.")
    assert counts(knowledge.sync(folder, new, encoder="new")) == (2, 0, 1, 0, 0)
    known = knowledge.known(None)
    passages, vectors = known.passages, known.vectors
    assert np.array_equal(vectors, [new.one(passage.full) for passage in passages]) and len(passages) == 4
    with pytest.raises(SourceError, match="encoded by new"):
        knowledge.add("up.txt", b"Uploaded.", Encoder(), encoder="old")


def test_what_is_changed_while_another_encoder_reads_gets_vectors_of_its_own(tmp_path: Path, folder: Path) -> None:
    """The database gives the id of what was deleted last again."""
    knowledge, meanwhile = Knowledge(tmp_path / "knowledge.db"), Knowledge(tmp_path / "knowledge.db")
    knowledge.sync(folder, Encoder(), encoder="old")
    knowledge.add("up.txt", b"Uploaded.", Encoder(), encoder="old")
    new, changes = Encoder("new"), [b"Another text.", b"A third text. It has two sentences."]

    def encode(texts: Sequence[str]) -> np.ndarray:
        if changes and any("Upload" in text or "Another" in text for text in texts):
            meanwhile.add("up.txt", changes.pop(0), Encoder(), encoder="old")
        return new(texts)

    knowledge.sync(folder, encode, encoder="new")
    known = knowledge.known(None)
    assert not changes and "A third text. It has two sentences." in texts(knowledge)
    assert np.array_equal(known.vectors, [new.one(passage.full) for passage in known.passages])


def test_an_encoder_that_breaks_leaves_all_as_it_was(knowledge: Knowledge, folder: Path) -> None:
    knowledge.sync(folder, Encoder(), encoder="e")
    before = knowledge.known(None)
    write(folder, a="Changed.")
    for wrong in (np.ones((1, WIDTH)), np.full((1, WIDTH), np.nan), np.ones((2, 1)), np.ones((1, 1)), np.zeros(1)):
        with pytest.raises(SourceError, match="vectors of length 1"):
            knowledge.sync(folder, lambda texts, wrong=wrong: wrong, encoder="e")
        with pytest.raises(SourceError, match="vectors of length 1"):
            knowledge.sync(folder, lambda texts, wrong=wrong[:, None]: wrong, encoder="other")
    after = knowledge.known(None)
    assert before.passages == after.passages and np.array_equal(before.vectors, after.vectors)


def test_each_sentence_is_known_by_its_passage(knowledge: Knowledge, folder: Path) -> None:
    write(folder, a="# A\n\nFirst sentence here. Second sentence here.\n\n# B\n\nNo.")
    encoder = Encoder()
    knowledge.sync(folder, encoder, encoder="e")
    known = knowledge.known(None)
    said = [(place, sentence) for place, passage in enumerate(known.passages) for sentence in passage.said]
    assert ("A: Second sentence here." in dict(enumerate(one for _, one in said)).values()) and len(said) == 4
    assert known.owners.tolist() == [place for place, _ in said]
    assert np.array_equal(known.sentences, [encoder.one(sentence) for _, sentence in said])


# -- access


def test_labels_are_met_before_anything_is_read(knowledge: Knowledge, folder: Path) -> None:
    write(folder, hr__pay="Pay.", hr__board__plan="Plan.")
    access = {"hr/*": ["hr", "boss"], "hr/board/*": ["board"]}
    encoder = Encoder()
    knowledge.sync(folder, encoder, encoder="e", access=access)
    everybody = ["First text.", "Second text.", "Third text."]
    assert sorted(texts(knowledge)) == everybody == sorted(passage.text for passage in knowledge.known(None).passages)
    assert sorted(texts(knowledge, "hr")) == sorted([*everybody, "Pay."]) == sorted(texts(knowledge, "boss", "x"))
    assert sorted(texts(knowledge, "board")) == everybody
    assert sorted(texts(knowledge, "board", "hr")) == sorted([*everybody, "Pay.", "Plan."])
    assert len(knowledge.known({"hr"}).vectors) == 4
    encoder.asked.clear()
    assert counts(knowledge.sync(folder, encoder, encoder="e", access={"sub/*": ["x"]})) == (2, 0, 3, 0, 0)
    assert not encoder.asked and "Third text." not in texts(knowledge) and "Plan." in texts(knowledge)
    with pytest.raises(SourceError, match=r"HR/\*"):
        knowledge.sync(folder, encoder, encoder="e", access={"HR/*": ["hr"]})


def test_two_tenants_are_two_files(tmp_path: Path) -> None:
    one, two = Knowledge(tmp_path / "one"), Knowledge(tmp_path / "two")
    one.add("a.txt", b"Only one.", Encoder(), encoder="e")
    two.add("a.txt", b"Only two.", Encoder(), encoder="e")
    assert texts(one) == ["Only one."] and texts(two) == ["Only two."]


def test_the_files_are_its_owner_s_alone(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "k").touch(mode=0o644)
    knowledge = Knowledge(tmp_path / "k")
    knowledge.sync(folder, Encoder(), encoder="e")
    files = [path for path in tmp_path.iterdir() if path.name.startswith("k")]
    assert len(files) == 3 and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


# -- near-duplicates

LONG = "The parcel may be sent back within fourteen days of its arrival, unopened, in the box in which it came. "


def test_what_is_said_twice_is_found_once_with_all_its_places(knowledge: Knowledge, tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", a=f"# A\n{LONG}", b=f"# A\n{LONG.replace('unopened', 'unopen')}", c="# A\nElse.",
                   hr__d=f"# A\n{LONG}", hr__e=f"# A\n{LONG}")  # fmt: skip
    synced = knowledge.sync(folder, Encoder(), encoder="e", access={"hr/*": ["hr"]})
    assert (synced.kept, synced.merged) == (3, 2)
    assert [(one.file, one.also) for one in knowledge.known({"hr"}).passages] == [
        ("a.md", (("b.md", ("A",)),)), ("c.md", ()), ("hr/d.md", (("hr/e.md", ("A",)),)),
    ]  # fmt: skip
    assert [(one.file, one.also) for one in knowledge.known(None).passages] == [
        ("a.md", (("b.md", ("A",)),)),
        ("c.md", ()),
    ]
    (folder / "a.md").unlink()
    synced = knowledge.sync(folder, Encoder(), encoder="e", access={"hr/*": ["hr"]})
    assert (synced.kept, synced.merged) == (3, 1)
    assert knowledge.known(None).passages[0].file == "b.md"
    knowledge.sync(folder, Encoder(), encoder="e", access={})
    assert [(one.file, len(one.also)) for one in knowledge.known(None).passages] == [("b.md", 2), ("c.md", 0)]


@pytest.mark.parametrize(
    ("one", "other"),
    [("It costs 3 euros.", "It costs 5 euros."), ("# Shoes\n## Returns", "# Hats\n## Returns"),
     ("# May I return it?", "# Must I return it?")],
)  # fmt: skip
def test_two_prices_or_questions_are_not_the_same(knowledge: Knowledge, tmp_path: Path, one: str, other: str) -> None:
    folder = write(tmp_path / "docs", a=f"{one}\n{LONG * 4}", b=f"{other}\n{LONG * 4}")
    assert knowledge.sync(folder, Encoder(), encoder="e").kept == 2


# -- uploads and deletion


def test_an_upload_stays_until_it_is_removed(knowledge: Knowledge, folder: Path) -> None:
    assert knowledge.add("faq.csv", "问题,答案\n几天？,七天。\n".encode("gb18030"), Encoder(), encoder="e") == (1, 0)
    assert counts(knowledge.sync(folder, Encoder(), encoder="e")) == (0, 3, 0, 0, 0)
    assert "七天。" in texts(knowledge)
    knowledge.add("faq.csv", "问题,答案\n几天？,九天。\n".encode(), Encoder(), encoder="e", labels=["x"])
    assert (
        "七天。" not in texts(knowledge, "x") and "九天。" in texts(knowledge, "x") and "九天。" not in texts(knowledge)
    )
    with pytest.raises(SourceError, match="file of the folder"):
        knowledge.add("a.md", b"x", Encoder(), encoder="e")
    assert knowledge.remove("faq.csv") and not knowledge.remove("faq.csv")
    assert len(texts(knowledge, "x")) == 3


@pytest.mark.parametrize(
    "name", ["", "../a.md", "a/b.md", "a\\b.md", ".a.md", "~$a.md", "a.exe", "a", "a\n.md", "a\0.md", "\udcff.md",
             "x" * 300 + ".md"],
)  # fmt: skip
def test_an_upload_has_a_plain_name(knowledge: Knowledge, name: str) -> None:
    with pytest.raises(SourceError, match="no name for an upload"):
        knowledge.add(name, b"text", Encoder(), encoder="e")
    assert knowledge.known(None).passages == [] and knowledge.known(None).vectors.shape == (0, 0)


def raw(tmp_path: Path) -> bytes:
    """All bytes of all files of the knowledge."""
    return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("knowledge.db*")))


@pytest.mark.parametrize("way", ["remove", "sync", "replace"])
def test_deleted_words_are_nowhere_on_the_disk(knowledge: Knowledge, tmp_path: Path, way: str) -> None:
    rows = "".join(f"Some words of secret number {number}, the zanzibar. " for number in range(2_000))
    other = "".join(f"Some words of no secret number {number}. " for number in range(2_000))
    folder = write(tmp_path / "docs", a=other, b=f"# Kilimanjaro\n{rows}" if way == "sync" else other, c=other)
    knowledge.sync(folder, Encoder(), encoder="e")
    if way != "sync":
        knowledge.add("b-secret.md", f"# Kilimanjaro\n{rows}".encode(), Encoder(), encoder="e")
    for marker in ("zanzibar", "Kilimanjaro"):
        assert marker.encode() in raw(tmp_path)
    if way == "remove":
        assert knowledge.remove("b-secret.md")
        assert b"b-secret" not in raw(tmp_path)
    elif way == "replace":
        knowledge.add("b-secret.md", b"Nothing.", Encoder(), encoder="e")
    else:
        (folder / "b.md").unlink()
        knowledge.sync(folder, Encoder(), encoder="e")
    for marker in ("zanzibar", "Kilimanjaro"):
        assert marker.encode() not in raw(tmp_path)
    assert any("no secret" in text for text in texts(knowledge))


def test_no_word_is_left_after_many_changes(
    knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's secure_delete alone leaves some here, in cells that were moved before they were deleted."""
    draw = np.random.default_rng(7)
    live: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(Knowledge, "_purge", lambda _: None)
        patch.setattr(Knowledge, "_merge", lambda _: (0, 0))
        for number in range(400):
            if live and draw.random() < 0.5:
                name = sorted(live)[draw.integers(len(live))]
                live.remove(name)
                assert knowledge.remove(name)
            else:
                name = f"file{number:03}x.txt"
                live.add(name)
                text = "\n\n".join(f"{name[:8]} says " * draw.integers(1, 60) for _ in range(draw.integers(1, 9)))
                knowledge.add(name, text.encode(), Encoder(), encoder="e")
    knowledge._purge()
    found = {name.decode() for name in re.findall(rb"file\d{3}x", raw(tmp_path))}
    assert found == {name[:8] for name in live}


def test_deletion_says_so_where_somebody_is_still_reading(
    knowledge: Knowledge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge._base.execute("PRAGMA busy_timeout = 50")
    knowledge.add("a.txt", b"The zanzibar.", Encoder(), encoder="e")
    other = sqlite3.connect(tmp_path / "knowledge.db")
    other.execute("BEGIN")
    other.execute("SELECT * FROM passages").fetchone()
    with pytest.raises(SourceError, match="may still lie in it"):
        knowledge.remove("a.txt")
    assert texts(knowledge) == []
    other.close()
    assert not knowledge.remove("a.txt") and b"zanzibar" not in raw(tmp_path)


# -- kills, threads, damage


def synced_and_killed(path: Path, folder: Path, after: int) -> int:
    """The exit status of a child that syncs and is gone, without a word, when the encoder is asked once too often."""
    asked = 0

    def encode(texts: Sequence[str]) -> np.ndarray:
        nonlocal asked
        asked += 1
        if asked > after:
            os._exit(9)
        return np.eye(1, WIDTH, dtype=np.float32).repeat(len(texts), 0)

    child = os.fork()
    if not child:
        try:
            Knowledge(path).sync(folder, encode, encoder="e")
        finally:
            os._exit(0 if asked else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def said_by_file(path: Path) -> dict[str, set[str]]:
    """The words of each file, every other one of which is a number."""
    found: dict[str, set[str]] = {}
    with closing(Knowledge(path)) as knowledge:
        for passage in knowledge.known(None).passages:
            found.setdefault(passage.file, set()).update(passage.text.split()[::2])
    return found


def test_after_a_kill_each_file_is_old_or_new_and_sync_goes_on(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(6)]
    folder = write(tmp_path / "docs", **{name: f"Old {number}. " * 50 for number, name in enumerate(names)})
    path = tmp_path / "k"
    assert synced_and_killed(path, folder, 3) == 9
    assert sorted(said_by_file(path)) == ["f0.md", "f1.md", "f2.md"]
    assert synced_and_killed(path, folder, 100) == 0
    write(folder, **{name: f"New {number}. " * 50 for number, name in enumerate(names)})
    assert synced_and_killed(path, folder, 2) == 9
    assert [said for _, said in sorted(said_by_file(path).items())] == [{"New"}] * 2 + [{"Old"}] * 4
    assert synced_and_killed(path, folder, 100) == 0
    assert [said for _, said in sorted(said_by_file(path).items())] == [{"New"}] * 6


def test_many_threads_use_one_object(knowledge: Knowledge, folder: Path) -> None:
    knowledge.sync(folder, Encoder(), encoder="e")
    wrong: list[object] = []

    def read() -> None:
        for _ in range(10):
            known = knowledge.known(None)
            passages, vectors = known.passages, known.vectors
            if len(passages) != len(vectors) or not {"a.md", "b.md", "sub/c.md"} <= {one.file for one in passages}:
                wrong.append(passages)

    def change(name: str) -> None:
        for _ in range(2):
            knowledge.add(name, f"Of {name}.".encode(), Encoder(), encoder="e")
            if not knowledge.remove(name):
                wrong.append(name)

    threads = [threading.Thread(target=read) for _ in range(3)]
    threads += [threading.Thread(target=change, args=(f"{number}.txt",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(texts(knowledge)) == 3


def test_another_file_is_no_knowledge(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 1_000)
    with pytest.raises(SourceError, match="cannot be used as a knowledge file"):
        Knowledge(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(SourceError, match="no knowledge file of this version"):
        Knowledge(tmp_path / "other")
    with pytest.raises(SourceError, match="cannot be used"):
        Knowledge(tmp_path / "none" / "k")


def test_a_closed_one_is_one_file_and_opens_again(knowledge: Knowledge, tmp_path: Path, folder: Path) -> None:
    knowledge.sync(folder, Encoder(), encoder="e")
    knowledge.close()
    assert os.listdir(tmp_path).count("knowledge.db-wal") == 0
    assert len(texts(Knowledge(tmp_path / "knowledge.db"))) == 3

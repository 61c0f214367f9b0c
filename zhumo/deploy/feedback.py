"""What people did with what they were shown: one SQLite file that `prepare` reads like any other source.

Nothing is kept unless `zhumo serve --feedback FILE` names a file. Its view `interactions` holds who clicked or bought
what, so `sqlite:FILE?SELECT * FROM interactions` is the next recipe's source.
"""

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from zhumo.deploy.refusals import Refusal
from zhumo.errors import SourceError

MOST_BYTES = 8 * 2**30
FORMAT = """
CREATE TABLE IF NOT EXISTS events (
    time REAL NOT NULL, model TEXT NOT NULL, user TEXT, event TEXT NOT NULL,
    item TEXT NOT NULL, place INTEGER NOT NULL, list TEXT
);
CREATE VIEW IF NOT EXISTS interactions AS
    SELECT user, item, time FROM events WHERE user IS NOT NULL AND event IN ('click', 'buy') ORDER BY time, rowid;
"""


class Events:
    """The file, open for adding; one event is one line an item. Many threads may add at once.

    Raises:
        SourceError: the file cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._base = sqlite3.connect(path, check_same_thread=False)
            self._base.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {FORMAT}")
            [(page,)] = self._base.execute("PRAGMA page_size")
            self._base.execute(f"PRAGMA max_page_count = {MOST_BYTES // page}")
        except sqlite3.Error as error:
            raise SourceError("serve.feedback_file", path=path, problem=error) from error

    def add(self, model: str, user: str | None, event: str, items: Sequence[str], shown: str | None) -> None:
        """Append one event, whole or not at all. shown: which list it is about; place: from 0, as in `items`.

        Raises:
            Refusal: 507, the file is full or the disk is.
        """
        lines = [(time.time(), model, user, event, item, place, shown) for place, item in enumerate(items)]
        try:
            with self._lock, self._base:
                self._base.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", lines)
        except sqlite3.OperationalError as error:
            raise Refusal(507, "feedback_full", problem=error) from error

    def close(self) -> None:
        """Write all into the one file."""
        with self._lock, closing(self._base):
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

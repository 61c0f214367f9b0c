"""Text under its headings."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """Text and the headings it stands under, from the outermost to the nearest; plain, or Markdown as it stands."""

    headings: tuple[str, ...]
    text: str


class Outline:
    """Headings and lines in their order, gathered into sections."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._sections: list[Section] = []
        self._bare = False  # nothing has come since the last heading

    def head(self, level: int, text: str) -> None:
        """Begin a section. What stood under a heading of this or a deeper level has ended."""
        text = " ".join(text.split())
        if not text:
            return
        self._close(level)
        self._path = [*(outer for outer in self._path if outer[0] < level), (level, text)]
        self._bare = True

    def add(self, line: str) -> None:
        """A line, or several, of the section that is open."""
        self._lines.append(line)

    def sections(self) -> tuple[Section, ...]:
        """All that hold text."""
        self._close(0)
        return tuple(self._sections)

    def _close(self, level: int) -> None:
        text = "\n".join(self._lines).rstrip().lstrip("\r\n")
        headings = tuple(heading for _, heading in self._path)
        if text:
            self._sections.append(Section(headings, text))
        elif self._bare and self._path[-1][0] >= level:  # a heading with nothing below it is itself what is said
            self._sections.append(Section(headings[:-1], headings[-1]))
        self._lines, self._bare = [], False


_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")


def fence_after(fence: str, line: str) -> str:
    """The mark of the code fence of Markdown that is open after a line; fence: the one before it. Empty: none is."""
    mark = _FENCE.match(line)
    if not mark:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) and not line.strip(f" \t\r\n{fence[0]}") else fence

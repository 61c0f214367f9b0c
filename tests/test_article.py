"""The page about the article runs, says the same in both languages, and shows the picture its numbers draw."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("article.md", "article.zh-CN.md")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)


def without_comments(code: str) -> str:
    return re.sub(r"\s+#.*", "", code)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for code in blocks(page):
        exec(compile(code, page, "exec"), names)
    attention = names["attention"]
    assert isinstance(attention, torch.Tensor) and round(float(attention[1, 3]), 2) == 0.40  # the number in the text


def test_both_languages_run_the_same_code() -> None:
    assert [without_comments(code) for code in blocks(PAGES[0])] == [
        without_comments(code) for code in blocks(PAGES[1])
    ]


def test_the_picture_is_the_one_of_the_numbers() -> None:
    names: dict[str, object] = {}
    for code in blocks(PAGES[0])[:3]:
        exec(compile(code, PAGES[0], "exec"), names)
    assert (DOCS / "article.svg").read_text(encoding="utf-8") == draw(names)


def draw(names: dict[str, object]) -> str:
    """The causal attention of the four words as a small picture with real text."""
    words, causal = names["words"], names["causal"]
    assert isinstance(words, list) and isinstance(causal, torch.Tensor)
    cell, left, top = 64, 80, 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 4 * cell + 16} {top + 4 * cell + 16}" '
        'width="352" font-family="system-ui, sans-serif" font-size="16">',
        "<title>causal attention: 我 爱 学习 编程</title>",
    ]
    for index, word in enumerate(words):
        parts.append(f'<text x="{left + index * cell + cell // 2}" y="{top - 16}" text-anchor="middle">{word}</text>')
        parts.append(f'<text x="{left - 14}" y="{top + index * cell + 38}" text-anchor="end">{word}</text>')
        for other in range(4):
            weight = float(causal[index, other])
            x, y = left + other * cell, top + index * cell
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 4}" height="{cell - 4}" rx="6" fill="#b4311f" '
                f'fill-opacity="{max(weight, 0.04):.2f}"/>'
            )
            if other <= index:
                ink = "#fff" if weight > 0.55 else "#222"
                parts.append(
                    f'<text x="{x + 30}" y="{y + 36}" text-anchor="middle" font-size="14" fill="{ink}">'
                    f"{weight:.2f}</text>"
                )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":  # python tests/test_article.py draws the picture anew
    space: dict[str, object] = {}
    for block in blocks(PAGES[0])[:3]:
        exec(compile(block, PAGES[0], "exec"), space)
    (DOCS / "article.svg").write_text(draw(space), encoding="utf-8")

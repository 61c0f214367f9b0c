"""Real files of every kind, whole and damaged, made by the programs' own libraries or by hand."""

import io
import os
import random
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhumo.errors import ZhumoError
from zhumo.sources.documents import Bad, Document, Section, document_of, read_document, read_documents
from zhumo.words import LANGUAGES

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def sections(name: str, content: str | bytes) -> list[tuple[tuple[str, ...], str]]:
    raw = content.encode() if isinstance(content, str) else content
    return [(section.headings, section.text) for section in document_of(name, raw).sections]


def refused(name: str, content: bytes) -> str:
    """The name of the error that a file gives; it can be said in both languages and names the file."""
    with pytest.raises(ZhumoError) as caught:
        document_of(name, content)
    assert all(name in caught.value.say(language) for language in LANGUAGES)
    return caught.value.key.removeprefix("error.")


def zipped(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"word/{name}.xml", content)
    return file.getvalue()


def word(body: str, styles: str = "") -> bytes:
    parts = {"document": f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'}
    if styles:
        parts["styles"] = f'<w:styles xmlns:w="{W}">{styles}</w:styles>'
    return zipped(**parts)


def paragraph(text: str, style: str = "") -> str:
    how = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{how}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(*pages: str, more: bytes = b"") -> bytes:
    """A PDF file of lines of Helvetica, its cross references left to the reader to find; an empty page has none."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [f"1 0 obj <</Type/Catalog/Pages 2 0 R{more.decode()}>> endobj",
               f"2 0 obj <</Type/Pages/Kids[{kids}]/Count {len(pages)}>> endobj"]  # fmt: skip
    for number, text in enumerate(pages):
        lines = " ".join(f"({line}) Tj 0 -14 Td" for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 72 700 Td {lines} ET" if text else ""
        font = "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
        objects += [f"{3 + 2 * number} 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents "
                    f"{4 + 2 * number} 0 R/Resources{font}>> endobj",
                    f"{4 + 2 * number} 0 obj <</Length {len(stream)}>> stream\n{stream}\nendstream endobj"]  # fmt: skip
    return ("%PDF-1.4\n" + "\n".join(objects) + "\ntrailer <</Root 1 0 R>>\n%%EOF").encode()


# -- Markdown and text


def test_markdown_has_headings_and_keeps_the_rest_as_it_stands() -> None:
    text = """---
title: x
tags:
  - y
---
Before.

# Shop #
## Returns ##
Within *14* days.

```bash
# no heading
```
| a | b |
|---|---|
#tag is none
Underlined
==========
Two lines
---
####### seven
   ### Three
\t# code
Shipping
--------
C#
"""
    assert sections("a.md", text) == [
        ((), "Before."),
        (("Shop", "Returns"), "Within *14* days.\n\n```bash\n# no heading\n```\n| a | b |\n|---|---|\n#tag is none\n"
                              "Underlined\n==========\nTwo lines\n---\n####### seven"),
        (("Shop", "Returns", "Three"), "\t# code\nShipping\n--------\nC#"),
    ]  # fmt: skip
    assert document_of("x/a.md", text.encode()).title == "Shop"
    assert sections("a.md", "Underlined\n===\nA\n\nLower\n---\nB\n\n---\nC") == [
        (("Underlined",), "A"), (("Underlined", "Lower"), "B\n\n---\nC"),
    ]  # fmt: skip


def test_a_number_of_one_person_is_covered_in_the_title_as_in_the_text() -> None:
    document = document_of("a.md", "# 张三 11010519491231002X\n\n身份证11010519491231002X".encode())
    assert document == Document("a.md", "张三 ⟦resident1⟧", (Section(("张三 ⟦resident1⟧",), "身份证⟦resident1⟧"),))


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    assert sections("a.md", "---\nPlain words.\n---\nB") == [((), "---\nPlain words.\n---\nB")]


def test_a_heading_with_nothing_below_it_is_text() -> None:
    assert sections("a.md", "# Shop\n## Open all day\n## Closed\non Mondays\n# End") == [
        (("Shop",), "Open all day"), (("Shop", "Closed"), "on Mondays"), ((), "End"),
    ]  # fmt: skip


@given(
    st.lists(st.sampled_from(("# A", "## B #", "text", "", "===", "---", "```", "~~~", "| x |", "- i", "    # c", "#")))
)
def test_no_line_of_markdown_is_lost(lines: list[str]) -> None:
    text = "\n".join(["begin", *lines])
    document = document_of("a.md", text.encode())
    said = "".join(" ".join((*section.headings, section.text)) for section in document.sections)
    for line in lines:
        if line.strip("#=- "):
            assert line.strip("# ") in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_encodings_are_found_out(name: str, encoding: str) -> None:
    text = "退货须在七天之内提出，运费由我们承担。\r\n发票另寄，请注意查收。"
    [(headings, said)] = sections(name, text.encode(encoding))
    assert headings == ()
    assert said.split() in ([text.replace("\r", "").split()[0], "发票另寄，请注意查收。"], ["".join(text.split())])


# -- HTML


def test_html_is_what_a_reader_sees() -> None:
    page = """<!DOCTYPE html><html><head><title>Our &amp; shop</title><style>p {}</style>
    <script>if (a<b) "</p>"</script></head><body>
    <nav><ul><li>Menu<nav>inner</nav></li></ul></nav><h1>Re<b>turns</b></h1><!-- no --><p>Within
    14&nbsp;days.<br>Or later.</p><ul><li>one <p>two</p></li>
    <li>
      <p>three</p></ul><h2>价格</h2><table><tr><th>a<th>b<tr><td><p>1</p><td>2|3</table>两
    行<pre>  x = 1
  y</pre><img src="http://example.com/x.png" alt=no><a title="a>b" href='c>d'>1 < 2</a> <中> &lt;b&gt;</body>"""
    document = document_of("a.html", page.encode())
    assert document.title == "Our & shop"
    assert [(section.headings, section.text) for section in document.sections] == [
        (("Returns",), "Within 14 days.\nOr later.\n\n- one\n\ntwo\n\n- three"),
        (("Returns", "价格"), "| a | b |\n| 1 | 2/3 |\n\n两行\n\n```\n  x = 1\n  y\n```\n\n1 < 2 <中> <b>"),
    ]


@pytest.mark.parametrize("page", ["<p>a<!-- b", "<script>a", "<nav><p>a</p>"])
def test_html_that_hides_its_text_is_refused(page: str) -> None:
    assert refused("a.html", page.encode()) == "sources.damaged"


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<a b='", "<", "<p><li>", "<div>", "<tr><td>", "<script></script ", "&#"]
)
def test_a_hostile_page_takes_no_long(piece: str) -> None:
    """The parser of the standard library takes time that grows with the square of the first."""
    start = time.process_time()
    with suppress(ZhumoError):
        document_of("a.html", (piece * (100_000 // len(piece))).encode())
    assert time.process_time() - start < 5


# -- questions and answers


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("question,answer,seen\nHow?,So.,1\n\"Who,\nme?\",You.,2\n", [(("How?",), "So."), (("Who,\nme?",), "You.")]),
        ("分类;问题;答案\n退货;几天？;七天内。\n;运费？;免。\n",
         [(("退货", "几天？"), "七天内。"), (("运费？",), "免。")]),
    ],
)  # fmt: skip
def test_questions_and_answers_of_a_table(content: str, expected: list[object]) -> None:
    assert sections("faq.csv", content) == expected
    assert sections("faq.csv", content.encode("gb18030")) == expected


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"a,b\n1,2\n", "support.no_columns"), (b"question,answer\nHow?,\n", "support.rows"),
     (b'question,answer\nHow?,"So\n', "support.rows"), (b"question,answer\n", "support.empty"),
     (b"question,answer,answer\nHow?,So.,So.\n", "sources.twice")],
)  # fmt: skip
def test_a_table_that_would_lose_a_row_is_refused(content: bytes, key: str) -> None:
    assert refused("faq.csv", content) == key


def test_a_workbook_is_all_its_sheets() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "退货"
    for row in (["问题", "答案"], ["几天？", 7], [None, None], ["运费？", "免费"]):
        book.active.append(row)
    book.create_sheet("Sheet2")  # as Excel made two of until 2010
    file = io.BytesIO()
    book.save(file)
    assert sections("faq.xlsx", file.getvalue()) == [(("几天？",), "7"), (("运费？",), "免费")]
    other = book.create_sheet("Other")
    other.append(["Question", "Answer"])
    other.append(["Who?", "We."])
    file = io.BytesIO()
    book.save(file)
    assert sections("faq.xlsx", file.getvalue())[1:] == [(("退货", "运费？"), "免费"), (("Other", "Who?"), "We.")]


# -- Word


def test_a_document_of_the_library_is_read_as_written(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    made = docx.Document()
    made.add_heading("Handbook", 0)
    made.add_paragraph("Welcome.")
    made.add_heading("Returns", 1)
    made.add_paragraph("Within 14 days.")
    made.add_paragraph("first", style="List Bullet")
    table = made.add_table(2, 2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}"
    made.add_heading("Deadlines", 2)
    made.add_paragraph("七天。")
    made.save(tmp_path / "a.docx")
    document = read_document(tmp_path / "a.docx", "a.docx")
    assert document.title == "Handbook"
    assert [(section.headings, section.text.split("\n")) for section in document.sections] == [
        (("Handbook",), ["Welcome."]),
        (("Handbook", "Returns"), ["Within 14 days.", "", "first", "", "| cell 0 | cell 1 |", "| cell 2 | cell 3 |"]),
        (("Handbook", "Returns", "Deadlines"), ["七天。"]),
    ]


def test_styles_of_a_chinese_word_and_what_was_deleted() -> None:
    styles = """<w:style w:styleId="2"><w:name w:val="heading 1"/></w:style>
    <w:style w:styleId="a9"><w:name w:val="我的标题"/><w:basedOn w:val="2"/></w:style>
    <w:style w:styleId="own"><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
    <w:style w:styleId="t"><w:name w:val="toc 1"/></w:style>"""
    body = (paragraph("目录", "t") + paragraph("第一章", "2") + paragraph("正文。") + paragraph("第二章", "a9")
            + paragraph("细则", "own")
            + '<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>一</w:t><w:tab/><w:t>二</w:t></w:r>'
              '<w:del><w:r><w:delText>删</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>移</w:t></w:r></w:moveFrom></w:p>'
            + f"<w:p><w:r><w:t>盒外</w:t>{paragraph('盒内')}</w:r></w:p>")  # fmt: skip
    assert sections("a.docx", word(body, styles)) == [
        (("第一章",), "正文。"), (("第二章", "细则"), "- 一 二\n盒内\n\n盒外"),
    ]  # fmt: skip


def test_word_files_that_do_harm_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhumo.sources.docx.MOST_BYTES", 1 << 20)
    monkeypatch.setattr("zhumo.sources.documents.MOST_UNPACKED", 1 << 20)
    bomb = (
        f'<!DOCTYPE x [<!ENTITY a "{"a" * 99}"><!ENTITY b "{"&a;" * 99}">]><w:document xmlns:w="{W}">&b;</w:document>'
    )
    assert refused("a.docx", zipped(document=bomb)) == "sources.damaged"
    assert refused("a.docx", word("<w:p>" * 300 + "</w:p>" * 300)) == "support.nested"
    assert refused("a.docx", word(paragraph("x" * (1 << 20)))) == "support.unpacked"
    assert refused("a.docx", word("<w:p>")[:-30]) == "sources.damaged"
    assert refused("a.docx", word("<w:p>")) == "sources.damaged"
    assert refused("a.docx", zipped(other="<x/>")) == "sources.damaged"
    assert refused("a.docx", b"no zip") == "sources.damaged"
    assert refused("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 encrypted") == "support.encrypted"
    assert refused("a.docx", word("<w:p/>")) == "support.empty"
    assert refused("a.xlsx", b"no zip") == "sources.damaged"
    assert refused("a.xlsx", zipped(sheet="x" * (2 << 20))) == "support.unpacked"


# -- PDF


def test_a_pdf_is_its_pages() -> None:
    pytest.importorskip("pypdfium2")
    contents = b"/Outlines<</First<</Title(Returns)/Dest[5 0 R/Fit]>>>>"
    assert sections("a.pdf", pdf("Within 14 days.\nOr later.", "More.", more=contents)) == [
        (("p. 1",), "Within 14 days.\nOr later."), (("Returns", "p. 2"), "More."),
    ]  # fmt: skip


def test_a_pdf_that_is_scanned_locked_or_none_is_refused() -> None:
    pytest.importorskip("pypdfium2")
    lock = f"/Encrypt<</Filter/Standard/V 1/R 2/O<{'ab' * 32}>/U<{'cd' * 32}>/P -4>>/ID[<00><00>]"
    assert refused("a.pdf", pdf("text").replace(b"trailer <<", f"trailer <<{lock}".encode())) == "support.encrypted"
    assert refused("a.pdf", pdf("text", "", "")) == "support.scanned"
    assert refused("a.pdf", b"no pdf") == "sources.damaged"
    assert refused("a.pdf", pdf()) in ("support.scanned", "sources.damaged")


# -- folders


def test_files_in_are_documents_and_bad(tmp_path: Path) -> None:
    folder, outside = tmp_path / "docs", tmp_path / "secret.md"
    (folder / "b").mkdir(parents=True)
    outside.write_text("secret")
    (folder / "a.md").write_text("# A\ntext")
    (folder / "b" / "c.txt").write_text("text")
    (folder / "b" / "empty.txt").write_text(" \n")
    (folder / "b" / "zero.pdf").write_bytes(b"")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "link.md").symlink_to(outside)
    (folder / "gone.md").symlink_to(tmp_path / "nothing")
    (folder / "up").symlink_to(tmp_path)
    (folder / "again").symlink_to(folder / "b")
    (folder / "same.md").symlink_to(folder / "a.md")
    (folder / "bytes.txt").write_bytes(b"fine\n\xff\xfe\xfa\n")
    (folder / ".hidden.md").write_text("no")
    (folder / "~$a.docx").write_text("no")
    os.mkfifo(folder / "pipe.txt")
    with (folder / "huge.txt").open("wb") as file:
        file.truncate((50 << 20) + 1)
    (folder / os.fsdecode(b"\xff.md")).write_text("text")
    results = list(read_documents(folder))
    assert [result.path for result in results if isinstance(result, Document)] == ["a.md", "b/c.txt", "same.md"]
    keys = {
        result.path: result.error.key.removeprefix("error.support.") for result in results if isinstance(result, Bad)
    }
    assert keys == {
        "b/empty.txt": "empty", "b/zero.pdf": "empty", "bytes.txt": "not_text", "gone.md": "outside",
        "huge.txt": "large", "link.md": "outside", "old.doc": "kind", "pipe.txt": "kind", "up": "outside",
        "\\udcff.md": "file_name",
    }  # fmt: skip
    assert "secret" not in repr(results)
    for result in results:
        assert not isinstance(result, Bad) or all(result.path in result.error.say(language) for language in LANGUAGES)


def test_deep_folders_are_refused_and_no_folder_is_an_error(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "a.md").write_text("a")
    [bad] = read_documents(tmp_path)
    assert isinstance(bad, Bad) and bad.error.key == "error.support.nested"
    with pytest.raises(ZhumoError, match="no folder"):
        list(read_documents(tmp_path / "none"))


@pytest.mark.parametrize(("name", "library"), [("a.pdf", "pypdfium2"), ("a.xlsx", "openpyxl")])
def test_what_is_not_installed_is_said(
    name: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / name).write_bytes(zipped(a=""))
    [bad] = read_documents(tmp_path)
    assert isinstance(bad, Bad)
    assert all("pip install 'zhumo[support]'" in bad.error.say(language) for language in LANGUAGES)
    assert sections("a.md", "text") == [((), "text")]


@settings(max_examples=200)
@given(st.sampled_from((".md", ".txt", ".html", ".csv", ".tsv", ".xlsx", ".docx", ".pdf")), st.binary(max_size=300))
def test_any_bytes_are_a_document_or_an_error_of_the_catalogue(kind: str, content: bytes) -> None:
    for raw in (content, b"PK\x03\x04" + content, b"%PDF-1.4\n" + content, b"<h1>question,answer\n" + content):
        try:
            document = document_of(f"a{kind}", raw)
        except ZhumoError as error:
            assert error.say("zh")
        else:
            assert all(isinstance(section, Section) and section.text.strip() for section in document.sections)
            assert "".join(section.text for section in document.sections).encode()


def workbook() -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["question", "answer"], ["How?", "So."], ["When?", 3.5]):
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def torn(draw: random.Random, content: bytes) -> bytes:
    """Some bytes changed, cut out or said twice."""
    raw = bytearray(content)
    for _ in range(draw.randrange(1, 4)):
        place, many = draw.randrange(len(raw)), draw.randrange(1, 30)
        raw[place : place + draw.choice((0, 1, many))] = draw.choice((b"", b"<", b"\xff", raw[-many:], raw[:many]))
    return bytes(raw)


def torn_within(draw: random.Random, content: bytes) -> bytes:
    """A zip file with one damaged, or missing, member."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        worse = draw.choice(old.namelist())
        for name in old.namelist():
            if name != worse or draw.random() < 0.8:
                new.writestr(name, torn(draw, old.read(name)) if name == worse else old.read(name))
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "a.pdf"])
def test_damaged_files_give_an_error_of_the_catalogue(name: str) -> None:
    whole = {"a.xlsx": workbook(), "a.docx": word(paragraph("text") * 3, "<w:style/>"), "a.pdf": pdf("text", "more")}[
        name
    ]
    draw = random.Random(5)
    ends = []
    for damage in (torn,) if name == "a.pdf" else (torn, torn_within):
        for _ in range(150):
            try:
                document_of(name, damage(draw, whole))
            except ZhumoError as error:
                ends.append(error.key)
            else:
                ends.append("")
    assert ends.count("error.sources.damaged") > 20

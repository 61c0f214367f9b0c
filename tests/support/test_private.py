"""What a visitor types of themselves is never kept, and what stands in documents of single persons is never shown."""

import logging
from functools import partial
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from zhumo.bundle import Bundle
from zhumo.deploy.mount import create_app
from zhumo.support.opening import opened
from zhumo.support.routes import add_desk
from zhumo.support.tickets import Tickets

THEIRS = ("13800138000", "li.ming@163.com", "11010519491231002X", "4111 1111 1111 1111", "京A12345", "203.0.113.77")
PAGE = """# 联系
热线010-62345678，邮箱help@shop.cn，税号91110108551385082Q，汇款DE89370400440532013000。
# 张三 11010519491231002X
员工张三的身份证是11010519491231002X，卡号4111111111111111，车牌京A12345，护照E12345678。
"""
SHOWN = ("010-62345678", "help@shop.cn", "91110108551385082Q", "DE89370400440532013000")
COVERED = ("11010519491231002X", "4111111111111111", "京A12345", "E12345678")


@pytest.mark.parametrize("kind", ["md", "csv", "html"])
def test_what_leaves_a_desk(bundle: Bundle, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    lines = [line.lstrip("# ") for line in PAGE.splitlines()]
    forms = {
        "md": PAGE,
        "csv": "问题,答案\n" + "\n".join(f"{ask},{told}" for ask, told in zip(lines[::2], lines[1::2], strict=True)),
        "html": "".join(f"<h1>{ask}</h1><p>{told}</p>" for ask, told in zip(lines[::2], lines[1::2], strict=True)),
    }
    (pages / f"page.{kind}").write_text(forms[kind], encoding="utf-8")
    library, found = opened(bundle, pages, tmp_path / "knowledge.sqlite")
    assert found.new == 1
    store = Tickets(str(tmp_path / "tickets.sqlite"))
    desk = partial(add_desk, encoder="e", library=library, tickets=store)
    app = create_app({"e": bundle}, "k", further={"desk": desk})
    said = []
    with (
        caplog.at_level(logging.DEBUG),
        TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": "Bearer k"}) as client,
    ):
        for sure in (-100, 100):
            questions = [f"我是{theirs}，热线是多少" for theirs in THEIRS]
            answer = client.post("/v1/desk/replies", json={"questions": questions, "sure": sure})
            assert answer.status_code == 200 and "⟦ip1⟧" in answer.json()["asked"]
            said.append(answer.text)
        for body in ({"text": "卡4111111111111111，电话010-62345678"}, {"text": "a"}):
            asked = {"question": "我是13800138000", **body}
            said.append(client.post("/v1/desk/corrections", json=asked).text)
        for path in ("tickets", "corrections", "search?q=张三", "gaps", "documents"):
            said.append(client.get(f"/v1/desk/{path}").text)
        mine = client.put("/v1/desk/documents/new.md", content="# 李四\n身份证11010519491231002X，电话010-62345678\n")
        assert mine.status_code == 200
    store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*.sqlite*")).decode(errors="replace")
    everything = "\n".join([*said, kept, caplog.text])
    assert not [theirs for theirs in (*THEIRS, *COVERED) if theirs in everything]
    assert all(shown in kept and shown in "".join(said) for shown in SHOWN) and "⟦resident1⟧" in said[0] + said[1]

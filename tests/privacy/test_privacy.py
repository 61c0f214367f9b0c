"""Personal data is covered and uncovered, what only looks like it is left alone, and no text makes it slow."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhumo.privacy import KINDS, NEVER_SHOWN, find, mask, mask_all, unmask


@pytest.mark.parametrize(("text", "kind", "letters"), [
    ("请打13800138000找我", "phone", "13800138000"),
    ("手机：138 0013 8000。", "phone", "138 0013 8000"),
    ("call +86-138-0013-8000 now", "phone", "+86-138-0013-8000"),
    ("电话１３８００１３８０００谢谢", "phone", "１３８００１３８０００"),
    ("总机（010）6234 5678转801", "phone", "（010）6234 5678转801"),
    ("0571-88886666", "phone", "0571-88886666"),
    ("电话62345678", "phone", "62345678"),
    ("reach me on (415) 555-2671 x12", "phone", "(415) 555-2671 x12"),
    ("+44 20 7946 0958", "phone", "+44 20 7946 0958"),
    ("身份证11010519491231002X。", "resident", "11010519491231002X"),
    ("11010519491231002x", "resident", "11010519491231002x"),
    ("110105 19491231 0029，身份证号440305 19900307 1230", "resident", "440305 19900307 1230"),
    ("旧证130503670401001号", "resident", "130503670401001"),
    ("卡4111 1111 1111 1111到期", "card", "4111 1111 1111 1111"),
    ("4111-1111-1111-1111", "card", "4111-1111-1111-1111"),
    ("my card is 6222020200112233445", "card", "6222020200112233445"),
    ("账号 3100 5567 1234 00", "account", "3100 5567 1234 00"),
    ("IBAN DE89 3704 0044 0532 0130 00, bitte", "iban", "DE89 3704 0044 0532 0130 00"),
    ("税号91110108551385082Q开票", "credit", "91110108551385082Q"),
    ("写信到li.ming＠163.com吧", "email", "li.ming＠163.com"),
    ("it came from 203.0.113.77.", "ip", "203.0.113.77"),
    ("IP：2001:db8::8a2e:370:7334", "ip", "2001:db8::8a2e:370:7334"),
    ("护照E12345678", "passport", "E12345678"),
    ("passport no. 012345678", "passport", "012345678"),
    ("车牌京A·12345在楼下", "plate", "京A·12345"),
    ("粤BD12345", "plate", "粤BD12345"),
    ("ssn 078-05-1121", "ssn", "078-05-1121"),
    ("my social security number is 078051121", "ssn", "078051121"),
])  # fmt: skip
def test_it_is_found(text: str, kind: str, letters: str) -> None:
    assert (kind, letters) in [(one.kind, text[one.start : one.end]) for one in find(text)]


@pytest.mark.parametrize("text", [
    "订单号：13800138000", "order no. 4111111111111111", "单号 138-0013-8000", "¥13800138000", "13800138000元",
    "3.14159265358", "2026-11-26 08:30:00", "20261126083000", "version 10.2.30.4", "见 3.1.12 节", "127.0.0.1:8010",
    "1.2.3.4", "SN13800138000", "AB-13800138000", "zhumo==0.1.0", "icon@2x.png", "@someone", "a@b",
    "ISBN 978-7-111-12345-6",
    "110105194912310021", "4111 1111 1111 1112", "DE88 3704 0044 0532 0130 00", "91110108551385082A", "000-12-3456",
    "666-12-3456", "std::vector", "12:30:45", "10:20:30:40", "::1", "12,345,678,901", "1998-2003", "1/3/2024",
    "京东A区", "0.1.2.3", "sha256:9f86d081884c7d659a2f", "400-820-8820", "95588", "110", "2^64 = 18446744073709551616",
    "7 000 000 000", "1 2 3 4 5 6 7 8 9 10 11 12",
])  # fmt: skip
def test_it_is_left_alone(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(("text", "kind", "letters"), [
    ("114970199604299911", "resident", "114970199604299911"),  # a code of a company by its check as well
    ("身份证号114970199604299911", "resident", "114970199604299911"),
    ("110101199003070011@qq.com", "resident", "110101199003070011"),
    ("G12345678@x.com", "passport", "G12345678"),
])  # fmt: skip
def test_a_kind_not_asked_for_hides_none_that_is(text: str, kind: str, letters: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in find(text, NEVER_SHOWN)] == [(kind, letters)]


def test_a_number_of_a_company_is_nobodys_card() -> None:
    for text in ("DE95 4111 1111 1111 1111 00", "DE83 5500 0000 0000 0004 00"):
        assert [one.kind for one in find(text)] == ["iban"] and find(text, NEVER_SHOWN) == []
        assert find(text[5:], NEVER_SHOWN)


def test_what_is_covered_can_be_uncovered() -> None:
    text = "我是13800138000，再说一遍13800138000，不是139 0013 9000；卡4111111111111111。"
    masked = mask(text)
    assert masked.text == "我是⟦phone1⟧，再说一遍⟦phone1⟧，不是⟦phone2⟧；卡⟦card1⟧。"
    assert unmask(masked.text, masked.found) == text
    assert unmask("⟦phone9⟧", masked.found) == "⟦phone9⟧"


def test_texts_that_belong_together_share_their_placeholders() -> None:
    texts, found = mask_all(["打13800138000", "13800138000是我，也可发a@b.cn"])
    assert texts == ["打⟦phone1⟧", "⟦phone1⟧是我，也可发⟦email1⟧"]
    assert found == {"⟦phone1⟧": "13800138000", "⟦email1⟧": "a@b.cn"}


def test_a_placeholder_that_is_there_already_is_nobodys() -> None:
    text = "⟦phone1⟧ 13800138000"
    masked = mask(text)
    assert masked.text == "⟦phone1⟧ ⟦phone2⟧" and unmask(masked.text, masked.found) == text
    assert mask(masked.text).text == masked.text


def test_only_some_kinds() -> None:
    text = "热线010-62345678，身份证11010519491231002X"
    assert mask(text, NEVER_SHOWN).text == "热线010-62345678，身份证⟦resident1⟧"
    assert mask(text, ()).text == text and NEVER_SHOWN < KINDS


@pytest.mark.parametrize("encoding", ["gbk", "big5", "latin-1", "shift_jis", "cp1252"])
def test_no_old_document_can_hold_a_placeholder(encoding: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        "⟦".encode(encoding)


PIECES = ["13800138000", "010-62345678", "4111 1111 1111 1111", "a@b.cn", "⟦phone1⟧", "⟦", "京A12345", "+86 ", "\u200b",
          "１", "٣", "𝟙", "身份证", "11010519491231002X", " ", "-", ".", "号", "e", "\n", "::",
          "DE89370400440532013000"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_any_text_comes_back(text: str) -> None:
    masked = mask(text)
    assert unmask(masked.text, masked.found) == text
    again = mask(masked.text)
    assert unmask(again.text, again.found) == masked.text and not masked.found.keys() & again.found.keys()


HOSTILE: dict[str, Callable[[int], str]] = {
    "digits": lambda size: "1" * size,
    "groups": lambda size: "1 " * (size // 2),
    "dashes": lambda size: "1-" * (size // 2),
    "stops": lambda size: "1." * (size // 2),
    "signs": lambda size: "1( - " * (size // 5),
    "at": lambda size: "@" * size,
    "labels": lambda size: "a@" + "b." * (size // 2),
    "local": lambda size: ("a" * 63 + "@") * (size // 64),
    "colons": lambda size: ":" * size,
    "hex": lambda size: "a:" * (size // 2),
    "iban": lambda size: "DE89 3704 " * (size // 10),
    "iban letters": lambda size: "de12" * (size // 4),
    "credit": lambda size: "91" * (size // 2) + "A",
    "plates": lambda size: "京A" * (size // 2),
    "words": lambda size: "电话" * (size // 2) + "1",
    "said": lambda size: "card 411111111111111 " * (size // 21),
    "phones": lambda size: "13800138000 " * (size // 12),
    "full width": lambda size: "１" * size,
    "placeholders": lambda size: "⟦phone1⟧ 13800138000 " * (size // 21),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_as_the_text_does(name: str) -> None:
    def seconds(size: int) -> float:
        text, least = HOSTILE[name](size), 1e9
        for _ in range(3):
            began = time.process_time()
            mask(text)
            least = min(least, time.process_time() - began)
        return least

    small, large = seconds(4_000), seconds(32_000)
    assert large < 8 * 3 * max(small, 0.001)  # a square would be 64 times

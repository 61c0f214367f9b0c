"""Made-up personal data in real sentences, beside Presidio: what masking finds.

Numbers are made here with check digits of their own making, which python-stdnum and phonenumbers confirm
(`peers/redaction.py`), and written as people write them: in one, in groups, with dashes, in full width, stuck to
Chinese letters, with and without the word for what they are.
"""

import json
import random
import re
import string
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from benchmarks.harness import HERE, peer_python
from zhumo.privacy import Kind, find

PEERS = ("presidio-analyzer==2.2.366", "python-stdnum==2.2", "phonenumbers==9.0.43")

WIDE = {ord(letter): chr(ord(letter) + 0xFEE0) for letter in string.digits + string.ascii_letters}
ABROAD = (("44", 10), ("49", 10), ("33", 9), ("81", 10), ("852", 8), ("65", 8), ("7", 10), ("886", 9))
ISSUERS = (("622202", 19), ("621700", 19), ("625912", 16), ("4", 16), ("4367", 16), ("53", 16), ("2221", 16),
           ("37", 15), ("3528", 16), ("6011", 16), ("955880", 19), ("36", 14))  # fmt: skip
BANKS = {"DE": (0, 18), "GB": (4, 14), "FR": (0, 23), "NL": (4, 10), "AT": (0, 16), "CH": (0, 17), "LU": (0, 16),
         "MT": (4, 23)}  # fmt: skip
PLACES = (re.compile("(?<=[a-z,;] )(?=[a-z])"), re.compile("(?<=[，；、\u4e00-\u9fff])(?=[\u4e00-\u9fff])"))


@dataclass(frozen=True)
class Put:
    """A number of a kind at text[start:end]. plain: its digits and letters alone, as a check wants them."""

    text: str
    start: int
    end: int
    kind: Kind
    plain: str


def put(sentences: Sequence[str], count: int, seed: int) -> list[Put]:
    """So many numbers, each kind as often, one a sentence, as many Chinese sentences as others."""
    dice = random.Random(seed)
    chinese = [text for text in sentences if re.search("[\u4e00-\u9fff]", text)]
    pools = (chinese, sorted(set(sentences) - set(chinese)))
    return [
        _put(dice, dice.choice(pools[number % 2]), kind) for kind in MAKERS for number in range(count // len(MAKERS))
    ]


def shares_of(rows: Sequence[Put]) -> dict[str, float]:
    """By kind, and of all, the share of numbers found whole, whatever they are taken for."""
    hits: dict[str, list[bool]] = {"all": []}
    for row in rows:
        hit = any(one.start <= row.start and one.end >= row.end for one in find(row.text))
        hits["all"].append(hit)
        hits.setdefault(row.kind, []).append(hit)
    return {kind: sum(own) / len(own) for kind, own in hits.items()}


def beside(rows: Sequence[Put], texts: Sequence[str]) -> dict[str, Any]:
    """What Presidio finds of them, and in texts that hold none; and how many are right by other people's checks."""
    with tempfile.TemporaryDirectory() as work:
        for name, lines in (("rows", map(asdict, rows)), ("texts", texts)):
            text = "\n".join(json.dumps(line) for line in lines)
            (Path(work) / name).write_text(text, encoding="utf-8")
        command = [str(peer_python("presidio", *PEERS)), str(HERE / "peers" / "redaction.py"), "rows", "texts"]
        done = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _put(dice: random.Random, sentence: str, kind: Kind) -> Put:
    chinese = re.search("[\u4e00-\u9fff]", sentence) is not None
    plain, written, said = MAKERS[kind](dice)
    word = dice.choice(WORDS[kind][chinese]) if said or dice.random() < 0.3 else ""
    places = [match.start() for match in PLACES[chinese].finditer(sentence)] or [len(sentence)]
    place = dice.choice(places)
    gap = "" if chinese or word else " "
    before = f"{sentence[:place]}{'' if chinese or not sentence[:place].strip() else gap}{word}"
    if not chinese and before and before[-1].isalnum():
        before += " "
    after = sentence[place:]
    after = after if chinese or not after or after[0] in " ,;." else f" {after}"
    return Put(before + written + after, len(before), len(before) + len(written), kind, plain)


WORDS: dict[Kind, tuple[list[str], list[str]]] = {  # English, Chinese
    "account": (["account number ", "my account is "], ["账号", "账户：", "帐号是"]),
    "card": (["card ", "credit card number: "], ["卡号", "银行卡：", "我的卡是"]),
    "credit": (["tax number ", ""], ["税号", "统一社会信用代码：", "信用代码为"]),
    "email": (["mail ", "write to "], ["邮箱", "邮箱：", "发到"]),
    "iban": (["IBAN ", "pay to "], ["打到", "IBAN："]),
    "ip": (["from ", "address "], ["地址", "IP："]),
    "passport": (["passport ", "passport no. "], ["护照", "护照号：", "护照号码是"]),
    "phone": (["phone ", "call me at "], ["电话", "手机：", "打我手机"]),
    "plate": (["plate ", "car "], ["车牌", "车牌号：", "开的是"]),
    "resident": (["id card ", ""], ["身份证", "身份证号：", "身份证号码是"]),
    "ssn": (["SSN ", "social security number is "], ["SSN", "SSN："]),
}


def _digits(dice: random.Random, count: int, first: str = string.digits) -> str:
    return dice.choice(first) + "".join(dice.choices(string.digits, k=count - 1)) if count else ""


def _groups(text: str, *sizes: int, mark: str = " ") -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return mark.join(filter(None, [*parts, text[at:]]))


def _phone(dice: random.Random) -> tuple[str, str, bool]:
    form = dice.randrange(6)
    if form < 3:
        number = "1" + dice.choice(["39", "38", "37", "50", "58", "86", "99", "77", "31", "91"]) + _digits(dice, 8)
        written = dice.choice([number, number, _groups(number, 3, 4), _groups(number, 3, 4, mark="-"), f"+86{number}",
                               f"+86 {_groups(number, 3, 4)}", f"+86-{number}", f"0086{number}", f"86{number}",
                               f"(+86){number}", number.translate(WIDE), _groups(number, 3, 4, mark="－"),
                               _groups(number, 3, 4, mark="\u3000")])  # fmt: skip
        return f"+86{number}", written, False
    if form == 3:
        area = dice.choice(["10", "20", "21", "28", "571", "755", "931", "451"])
        number = _digits(dice, 8 if len(area) == 2 else dice.choice([7, 8]), "5678")
        halves = _groups(number, len(number) - 4, mark=dice.choice(" -"))
        written = dice.choice([f"0{area}-{number}", f"0{area} {number}", f"(0{area}){number}", f"（0{area}）{number}",
                               f"0{area}-{halves}", f"+86-{area}-{number}", f"0{area}-{number}-{_digits(dice, 3, '1')}",
                               f"0{area}-{number}转{_digits(dice, 4, '8')}", f"０{area}－{number}",
                               *([f"0{area}{number}"] if len(area) == 2 else [])])  # fmt: skip
        return f"+86{area}{number}", written, False
    if form == 4:
        number = _digits(dice, 3, "23456789") + _digits(dice, 3, "23456789") + _digits(dice, 4)
        written = dice.choice([_groups(number, 3, 3, mark="-"), f"({number[:3]}) {_groups(number[3:], 3, mark='-')}",
                               f"+1 {_groups(number, 3, 3)}", f"+1{number}", _groups(number, 3, 3, mark="."),
                               f"1-{_groups(number, 3, 3, mark='-')}"])  # fmt: skip
        return f"+1{number}", written, False
    code, size = dice.choice(ABROAD)
    number = _digits(dice, size, "123456789")
    written = dice.choice([f"+{code}{number}", f"+{code} {_groups(number, 3, 3)}",
                           f"+{code}-{_groups(number, 4, mark='-')}",
                           f"+{code} (0){_groups(number, 2, 4)}", f"00{code} {_groups(number, 4)}"])  # fmt: skip
    return f"+{code}{number}", written, False


def _resident(dice: random.Random) -> tuple[str, str, bool]:
    region = dice.choice(["110101", "310101", "440103", "510104", "330102", "610102", "210202", "650102", "420102"])
    year, month, day = dice.randint(1931, 2018), dice.randint(1, 12), dice.randint(1, 28)
    if dice.random() < 0.15:
        number = f"{region}{year % 100:02}{month:02}{day:02}{_digits(dice, 3)}"
        return number, dice.choice([number, number.translate(WIDE), _groups(number, 6, 6)]), False
    body = f"{region}{year}{month:02}{day:02}{_digits(dice, 3)}"
    total = sum(int(one) * (2 ** (17 - place) % 11) for place, one in enumerate(body))
    number = body + "10X98765432"[total % 11]
    written = dice.choice([number, number, number.lower(), number.translate(WIDE), _groups(number, 6, 8),
                           _groups(number, 6, 8, mark="-"), _groups(number, 6, 4, 4),
                           _groups(number, 4, 4, 4, 4)])  # fmt: skip
    return number, written, False


def _card(dice: random.Random) -> tuple[str, str, bool]:
    first, size = dice.choice(ISSUERS)
    body = first + _digits(dice, size - 1 - len(first))
    total = sum(sum(divmod(int(one) * (2 - place % 2), 10)) for place, one in enumerate(reversed(body)))
    number = body + str(-total % 10)
    groups = {14: (4, 6), 15: (4, 6)}.get(size, (4, 4, 4, 4))
    return number, dice.choice([number, number, number.translate(WIDE), _groups(number, *groups),
                                _groups(number, *groups, mark="-")]), False  # fmt: skip


def _iban(dice: random.Random) -> tuple[str, str, bool]:
    country = dice.choice(sorted(BANKS))
    letters, digits = BANKS[country]
    body = "".join(dice.choices(string.ascii_uppercase, k=letters)) + _digits(dice, digits)
    check = 98 - int("".join(str(int(one, 36)) for one in f"{body}{country}00")) % 97
    number = f"{country}{check:02}{body}"
    return number, dice.choice([number, _groups(number, *[4] * 8), number.lower()]), False


def _credit(dice: random.Random) -> tuple[str, str, bool]:
    letters = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    body = dice.choice(["91", "92", "12", "51", "93"]) + dice.choice(["110108", "310104", "440300", "330102"])
    body += dice.choice([_digits(dice, 9), "MA" + "".join(dice.choices(letters, k=7))])
    total = sum(letters.index(one) * 3**place for place, one in enumerate(body))
    number = body + letters[-total % 31]
    return number, dice.choice([number, number, number.translate(WIDE), _groups(number, 4, 4, 4, 4)]), False


def _email(dice: random.Random) -> tuple[str, str, bool]:
    name = dice.choice(["wang", "li.ming", "z_hang", "j.doe+shop", "13912345678", "anna-marie", "x", "o'neil"])
    host = dice.choice(["qq.com", "163.com", "mail.example.org", "a-b.co.uk", "corp.cn", "gmail.com"])
    number = f"{name}{dice.randrange(1000)}@{host}"
    return number, dice.choice([number, number, number, number.upper(), number.replace("@", "＠")]), False


def _ip(dice: random.Random) -> tuple[str, str, bool]:
    if dice.random() < 0.5:
        number = str(IPv4Address(dice.randrange(0x0B000000, 0xDF000000)))
        if number.startswith("127."):
            number = "10.20.30.40"
        return number, number, False
    address = IPv6Address((0x2001 << 112) + (dice.getrandbits(32) << 80) + dice.getrandbits(dice.choice([16, 64])))
    return str(address), dice.choice([str(address), address.exploded, str(address).upper()]), False


def _passport(dice: random.Random) -> tuple[str, str, bool]:
    form = dice.randrange(4)
    if form < 2:
        number = dice.choice(["E", "G", "E" + dice.choice("ABCDEFGHJ")])
        number += _digits(dice, 9 - len(number))
        return number, dice.choice([number, number.lower(), number.translate(WIDE)]), False
    number = (dice.choice(string.ascii_uppercase) if form == 2 else "") + _digits(dice, 8 if form == 2 else 9)
    return number, number, True


def _plate(dice: random.Random) -> tuple[str, str, bool]:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    front = dice.choice("京沪粤苏浙川鄂湘鲁豫闽津渝") + dice.choice(letters[:14])
    if dice.random() < 0.3:
        back = dice.choice("DF") + _digits(dice, 5)
    else:
        back = list(_digits(dice, 5))
        for place in dice.sample(range(5), dice.randrange(3)):
            back[place] = dice.choice(letters)
        back = "".join(back)
    return front + back, front + dice.choice(["", "", "·", " "]) + dice.choice([back, back.translate(WIDE)]), False


def _ssn(dice: random.Random) -> tuple[str, str, bool]:
    area = dice.choice([dice.randint(1, 665), dice.randint(667, 899)])
    number = f"{area:03}{dice.randint(1, 99):02}{dice.randint(1, 9999):04}"
    flat = dice.random() < 0.3
    return number, number if flat else _groups(number, 3, 2, mark="-"), flat


def _account(dice: random.Random) -> tuple[str, str, bool]:
    number = _digits(dice, dice.choice([12, 15, 17]), "123456789")
    return number, dice.choice([number, _groups(number, 4, 4, 4, 4)]), True


MAKERS: dict[Kind, Callable[[random.Random], tuple[str, str, bool]]] = {
    "account": _account, "card": _card, "credit": _credit, "email": _email, "iban": _iban, "ip": _ip,
    "passport": _passport, "phone": _phone, "plate": _plate, "resident": _resident, "ssn": _ssn,
}  # fmt: skip

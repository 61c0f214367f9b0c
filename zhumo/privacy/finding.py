"""Where personal data with a form of its own stands in a text, Chinese or English.

A form alone says little: 16 digits may be an order's. So a kind is told by its check digits, by the day or country it
names, by its grouping, or by the word before it. Each letter is looked at by a few expressions of bounded reach, so the
time grows as the text does, whatever is in it.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from zhumo.privacy.checks import IBAN, born, calling, credit, iban, issued, luhn, resident, ssn

Kind = Literal[
    "account", "card", "credit", "email", "iban", "ip", "passport", "phone", "plate", "resident", "ssn"
]  # fmt: skip
KINDS: frozenset[Kind] = frozenset(get_args(Kind))
_COMPANIES = ("credit", "iban")  # proved by a check of their own; what looks like a card inside one is chance
GROUPS = 5  # of digits in one number, at most
ABROAD = 7  # in one that begins with the code of a country
DIGITS = 21  # in one number, at most
REACH = 40  # letters in which the word before a number is looked for
LOCAL = 64  # letters of an address before its @, RFC 5321
DOMAIN = 255

# Digits, letters, blanks and dashes of other widths and scripts, one for one, so that places stay what they are.
_BLANKS = "\t\u00a0\u00ad\u200b\u200c\u200d\u202f\u205f\u2060\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_PLAIN: Mapping[str, str] = {
    **{letter: str(unicodedata.decimal(letter)) for letter in map(chr, range(0x80, 0x10000))
       if letter.isdecimal()},
    **{chr(ord("Ａ") + place): chr(ord("A") + place) for place in range(26)},
    **{chr(ord("ａ") + place): chr(ord("a") + place) for place in range(26)},
    **dict.fromkeys(_BLANKS, " "),
    **dict.fromkeys("‐‑‒–—―−－﹣", "-"),
    **{"＠": "@", "．": ".", "（": "(", "）": ")", "＋": "+", "：": ":"},
}  # fmt: skip
_OTHER = re.compile(f"[{''.join(_PLAIN)}]")

_CHAIN = re.compile(r"[0-9]++(?:[ .()\-]{1,3}+[0-9]++)*+")  # groups of digits; one chain may hold several numbers
_GROUP = re.compile(r"[0-9]++")
_MIDDLE = r"(?:no\.|[^0-9。.!?！？;；,，\n])"  # what may stand between a word and its number


def _said(words: str, middle: str = _MIDDLE) -> re.Pattern[str]:
    return re.compile(f"(?:{words}){middle}{{0,12}}(?:[:：] ?\n *[(]?)?$", re.IGNORECASE | re.ASCII)


_PHONE_SAID = _said(
    r"电话|手机|座机|联系方式|联系号码|传真|致电|拨打|\b(?:tele)?phone|\btel\b\.?|\bmobile|\bcell|\bfax|\bwhatsapp|"
    r"\bcall|\bdial|\boffice|\bdesk"
)
_ORDER_SAID = _said(
    r"订单|单号|流水|编号|序列|批次|货号|型号|条码|\border|\binvoice|\bticket|\btracking|\bserial|\bsku|\bitem|\bbatch|"
    r"\bisbn|\bissn|\bdoi|#", r"(?:number|no\.|id|[ :#号码是为])"
)  # fmt: skip
_CARD_SAID = _said(r"卡号|银行卡|储蓄卡|信用卡|借记卡|\bcard|\bcc\b")
_ACCOUNT_SAID = _said(r"账号|帐号|账户|帐户|\baccount")
_RESIDENT_SAID = _said(r"身份证|证件号")
_SSN_SAID = _said(r"\bssn|\bsocial security")
_PASSPORT_SAID = _said(r"护照|通行证|\bpassport")
_VERSION_SAID = re.compile(r"(?:版本|版|\bversion|\bver\.?|\brelease|§)[ :号]{0,2}$", re.IGNORECASE | re.ASCII)
_MONEY_BEFORE = re.compile(r"[¥￥$€£][ ]?$")
_MONEY_AFTER = re.compile(r" ?(?:元(?!前)|[万亿美]元|[%％])")
_CODE_BEFORE = re.compile(r"(?:[A-Za-z_]|[A-Za-z0-9_]-|[0-9]\.)$")  # a part of a longer code, or of a decimal number
_DIGITS_BEFORE = re.compile(r"[0-9][ \-]$")
_CODE_AFTER = re.compile(r"(?!x[0-9]{1,5}(?![0-9]))[A-Za-z_]|\.[0-9]")

# Numbers with each of their separators as one dash.
_MOBILE = re.compile(
    r"(?:(?:00)?86-?)?1[3-9](?:[0-9]{9}|[0-9]-[0-9]{8}|[0-9]-[0-9]{4}-[0-9]{4}|[0-9]-[0-9]{3}-[0-9]{5}"
    r"|[0-9]{2}-[0-9]{4}-[0-9]{3}|[0-9]{2}-[0-9]{7}|[0-9]{3}-[0-9]{6}|[0-9]{5}-[0-9]{4})"
)
_LANDLINE = re.compile(
    r"(?:0(?:10|2[0-9])-?|(?:00)?86-(?:0?10|0?2[0-9]|0?[3-9][0-9]{2})-|0[3-9][0-9]{2}-?)"
    r"[2-9](?:[0-9]{2,3}-?[0-9]{4})(?:-[0-9]{1,5})?"
)
_AMERICAN = re.compile(r"(?:1-)?(?![48]00-)[2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4}")
_CARD = re.compile(r"(?:[0-9]{4}-){3}[0-9]{1,4}(?:-[0-9]{1,3})?|[0-9]{4}-[0-9]{6}-[0-9]{4,5}|[0-9]{6}-[0-9]{10,13}"
                   r"|[0-9]{12,19}")  # fmt: skip
_NATIONAL = re.compile(r"0[1-9][0-9]{0,3}(?:-[0-9]{2,4}){2,4}")  # as in Europe, with blanks
_SSN = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")
_DAY = re.compile(r"(?:19|20)[0-9]{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])")
_CHECK = re.compile(r"[ \-]?[Xx](?![0-9A-Za-z])")
_EXTENSION = re.compile(r" ?(?:转|分机|ext\.?|x) ?:? ?[0-9]{1,5}(?![0-9])", re.IGNORECASE)

_LETTERS_BEFORE = re.compile(r"[A-Za-z0-9._%+'\-]*")
_LETTERS_AFTER = re.compile(r"(?:[A-Za-z0-9\-]++\.)+[A-Za-z]{2,24}")
_PICTURE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp)$", re.IGNORECASE)
_EDGE = r"(?![0-9A-Za-z])"
_EDGES = re.compile(_EDGE)
# Searched from their first digit, since letters are everywhere.
_IBAN = re.compile(r"[0-9](?<=[A-Za-z]{2}.)[0-9](?:[ \-]?[A-Za-z0-9]){11,30}")
_CREDIT = re.compile(rf"[159ANY][0-9A-Z](?:[ \-]?[0-9]){{6}}(?:[ \-]?[0-9A-Za-z]){{10}}{_EDGE}")
_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使][A-Za-z][ ·•・.\-]?"
    rf"(?:[0-9A-HJ-NP-Za-hj-np-z]{{5,6}}{_EDGE}|[0-9A-HJ-NP-Za-hj-np-z]{{4}}[警学挂港澳领试超])"
)
_PASSPORT = re.compile(rf"[0-9](?<=[A-Za-z].)[0-9]{{5,8}}{_EDGE}")
_PASSPORT_OWN = re.compile(r"[EGeg][0-9]{8}|[Ee][A-HJ-NP-Za-hj-np-z][0-9]{7}")
_IPV6 = re.compile(
    r":(?:(?<=[0-9A-Fa-f]:)|(?=:))(?:[0-9A-Fa-f]{0,4}:){1,6}"
    rf"(?:[0-9A-Fa-f]{{1,4}}|(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})?{_EDGE}"
)
_HEX_BEFORE = re.compile(r"[0-9A-Fa-f]{1,4}$")
_LATIN_BEFORE = re.compile(r"[A-Za-z]{1,2}$")


@dataclass(frozen=True)
class Found:
    """One piece of personal data, text[start:end]."""

    kind: Kind
    start: int
    end: int


def find(text: str, kinds: Collection[Kind] = KINDS) -> list[Found]:
    """Personal data of some kinds in a text in its order, none over another: of two the longer, of two alike a
    resident's number. A kind not asked for hides none that is, but a company's number is nobody's card."""
    plain = text if text.isascii() else _OTHER.sub(lambda match: _PLAIN[match[0]], text)
    looked = (one for look in _LOOKS for one in look(plain) if one.kind in kinds or one.kind in _COMPANIES)
    chosen: list[Found] = []
    for one in sorted(looked, key=lambda one: (one.start, -one.end, one.kind != "resident")):
        if not chosen or one.start >= chosen[-1].end:
            chosen.append(one)
        elif one.end - one.start > chosen[-1].end - chosen[-1].start:
            chosen[-1] = one
    return [one for one in chosen if one.kind in kinds]


# -- numbers


@dataclass(frozen=True)
class _Number:
    """Groups of digits that may be one number, with what stands around them."""

    text: str
    groups: list[tuple[int, int]]

    @cached_property
    def start(self) -> int:
        return self.groups[0][0]

    @cached_property
    def end(self) -> int:
        return self.groups[-1][1]

    @cached_property
    def form(self) -> str:
        """Its digits, a dash between groups."""
        return "-".join(self.text[start:end] for start, end in self.groups)

    @cached_property
    def digits(self) -> str:
        return self.form.replace("-", "")

    @cached_property
    def marks(self) -> set[str]:
        """What stands between its groups, without blanks beside another sign."""
        ends = zip(self.groups, self.groups[1:], strict=False)
        return {self.text[before[1] : after[0]].strip() for before, after in ends}

    @cached_property
    def before(self) -> str:
        return self.text[max(0, self.start - REACH) : self.start]

    @cached_property
    def is_code(self) -> bool:
        """Whether it is a part of something longer."""
        return bool(_CODE_BEFORE.search(self.before) or _CODE_AFTER.match(self.text, self.end))

    @cached_property
    def goes_on(self) -> bool:
        """Whether more digits stand before it."""
        return bool(_DIGITS_BEFORE.search(self.before))

    @cached_property
    def is_money(self) -> bool:
        return bool(_MONEY_BEFORE.search(self.before) or _MONEY_AFTER.match(self.text, self.end))

    def after(self, words: re.Pattern[str]) -> bool:
        """Whether one of the words stands before it."""
        return words.search(self.before) is not None


def _numbers(text: str) -> Iterator[Found]:
    for chain in _CHAIN.finditer(text):
        if chain.end() - chain.start() < 7:
            continue
        groups = [group.span() for group in _GROUP.finditer(text, *chain.span())]
        place = 0
        while place < len(groups):
            abroad = text[groups[place][0] - 1 : groups[place][0]] in ("+", "(")
            for last in range(min(place + (ABROAD if abroad else GROUPS), len(groups)), place, -1):
                sizes = [end - start for start, end in groups[place:last]]
                likely = 7 <= sum(sizes) <= DIGITS and sizes.count(1) <= 2
                found = _number(_Number(text, groups[place:last])) if likely else None
                if found is not None:
                    yield found
                    place = last
                    break
            else:
                place += 1


def _number(number: _Number) -> Found | None:
    end = _resident(number)
    if end:
        return Found("resident", number.start, end)
    for kind, is_one in _NUMBERS.items():
        if is_one(number):
            start, end = number.start, number.end
            if kind == "phone":
                start -= len(number.before) - len(number.before.rstrip("+("))
                extension = _EXTENSION.match(number.text, end)
                end = extension.end() if extension else end
            return Found(kind, start, end)
    return None


def _resident(number: _Number) -> int:
    """Where a resident's number ends; 0 where it is none."""
    if number.marks - {"", "-"}:
        return 0
    check = _CHECK.match(number.text, number.end) if len(number.digits) == 17 else None
    letters = number.digits + ("X" if check else "")
    if len(letters) not in (15, 18) or (len(letters) == 15 and len(number.groups) not in (1, 3)):
        return 0
    end = check.end() if check else number.end
    glued = number.is_code if len(letters) == 15 else _CODE_BEFORE.search(number.before) is not None
    said = number.after(_RESIDENT_SAID)
    if len(letters) == 15 and not said and (number.after(_ORDER_SAID) or number.is_money):
        return 0
    return end if said or (not glued and born(letters) and resident(letters)) else 0


def _is_phone(number: _Number) -> bool:
    digits, form, said = number.digits, number.form, number.after(_PHONE_SAID)
    if number.is_money or (number.after(_ORDER_SAID) and not said) or (number.is_code and not said):
        return False
    if number.before.endswith("+") or number.before.endswith("+("):
        return calling(digits) > 0 and 8 <= len(digits) <= 15
    if _AMERICAN.fullmatch(form) and (said or number.before.endswith("(") or number.marks != {""}):
        return True
    if "." in number.marks and not said:
        return False
    if _NATIONAL.fullmatch(form) and number.marks == {""} and 9 <= len(digits) <= 11 and not number.goes_on:
        return True
    if _MOBILE.fullmatch(form) or _LANDLINE.fullmatch(form):
        return True
    size = calling(digits[2:]) if digits.startswith("00") and not number.goes_on else 0
    if size and (said or len(form.partition("-")[0]) == 2 + size):
        return 10 <= len(digits) <= 17
    return said and 7 <= len(digits) <= 13 and not _DAY.fullmatch(form)


def _is_card(number: _Number) -> bool:
    if number.marks not in (set(), {""}, {"-"}) or number.before.endswith("+") or not _CARD.fullmatch(number.form):
        return False
    if number.after(_CARD_SAID):
        return True
    usual = not (number.is_code or number.after(_ORDER_SAID))
    return usual and issued(number.digits) and luhn(number.digits)


def _is_account(number: _Number) -> bool:
    return number.after(_ACCOUNT_SAID) and len(number.digits) >= 9 and not number.marks - {"", "-"}


def _is_ssn(number: _Number) -> bool:
    if len(number.digits) != 9 or not ssn(number.digits) or number.marks - {"", "-"}:
        return False
    said = number.after(_SSN_SAID)
    return said or (_SSN.fullmatch(number.form) is not None and number.marks == {"-"} and not number.is_code)


def _is_passport(number: _Number) -> bool:
    return number.after(_PASSPORT_SAID) and len(number.groups) == 1 and 7 <= len(number.digits) <= 10


def _is_ip(number: _Number) -> bool:
    """An address of version 4. Four small numbers are a version or a section, and 127.0.0.1 is everybody's own."""
    parts = number.form.split("-")
    if len(parts) != 4 or number.marks != {"."} or number.is_code or number.after(_VERSION_SAID):
        return False
    values = list(map(int, parts))
    return max(values) <= 255 and max(values) >= 10 and values[0] not in (0, 127)


_NUMBERS: Mapping[Kind, Callable[[_Number], bool]] = {
    "ip": _is_ip, "ssn": _is_ssn, "passport": _is_passport, "card": _is_card, "phone": _is_phone,
    "account": _is_account,
}  # fmt: skip


# -- kinds with letters


def _emails(text: str) -> Iterator[Found]:
    at = text.find("@")
    while at >= 0:
        before = _LETTERS_BEFORE.match(text[max(0, at - LOCAL) : at][::-1])
        after = _LETTERS_AFTER.match(text, at + 1, at + 1 + DOMAIN)
        local = before[0].rstrip("._%+'-") if before else ""
        if local and after and not _PICTURE.search(after[0]):
            yield Found("email", at - len(local), after.end())
        at = text.find("@", at + 1)


def _begins(text: str, start: int) -> bool:
    """Whether no Latin letter or digit stands just before."""
    return start == 0 or not (text[start - 1].isascii() and text[start - 1].isalnum())


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        letters = text[start : match.end()]
        size = IBAN.get(letters[:2].upper(), 0)
        places = [place for place, letter in enumerate(letters) if letter not in " -"][:size]
        if not size or len(places) < size or not _begins(text, start):
            continue
        end = start + places[-1] + 1
        if _EDGES.match(text, end) and iban("".join(letters[place] for place in places)):
            yield Found("iban", start, end)


def _credits(text: str) -> Iterator[Found]:
    for match in _CREDIT.finditer(text):
        letters = match[0].replace(" ", "").replace("-", "").upper()
        if _begins(text, match.start()) and not {" ", "-"} <= set(match[0]) and credit(letters):
            yield Found("credit", *match.span())


def _plates(text: str) -> Iterator[Found]:
    for match in _PLATE.finditer(text):
        if sum(letter.isdigit() for letter in match[0]) >= 2:
            yield Found("plate", *match.span())


def _passports(text: str) -> Iterator[Found]:
    for match in _PASSPORT.finditer(text):
        letters = _LATIN_BEFORE.search(text, max(0, match.start() - 2), match.start())
        start = letters.start() if letters else match.start()
        before, number = text[max(0, start - REACH) : start], text[start : match.end()]
        own = _PASSPORT_OWN.fullmatch(number) and not _CODE_BEFORE.search(before) and not _ORDER_SAID.search(before)
        if _begins(text, start) and (own or _PASSPORT_SAID.search(before)):
            yield Found("passport", start, match.end())


def _ipv6(text: str) -> Iterator[Found]:
    for match in _IPV6.finditer(text):
        first = _HEX_BEFORE.search(text, max(0, match.start() - 4), match.start())
        start = first.start() if first else match.start()
        letters = text[start : match.end()]
        if not _begins(text, start) or not any(map(str.isdigit, letters)):
            continue
        try:
            address = ipaddress.IPv6Address(letters)
        except ValueError:
            continue
        if not address.is_loopback and not address.is_unspecified:
            yield Found("ip", start, match.end())


_LOOKS: tuple[Callable[[str], Iterator[Found]], ...] = (
    _emails, _ibans, _credits, _plates, _passports, _ipv6, _numbers,
)  # fmt: skip

"""What tells a number of a kind from any other of its length: check digits, dates, tables of countries."""

from datetime import date

# Provinces, GB/T 2260.
PROVINCES = frozenset((
    "11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36", "37", "41", "42", "43", "44",
    "45", "46", "50", "51", "52", "53", "54", "61", "62", "63", "64", "65", "71", "81", "82", "83",
))  # fmt: skip
# Country calling codes, ITU-T E.164, first and last of each run.
_CALLING = (
    (1, 1), (7, 7), (20, 20), (27, 27), (30, 34), (36, 36), (39, 41), (43, 49), (51, 58), (60, 66), (81, 82), (84, 84),
    (86, 86), (90, 95), (98, 98), (211, 213), (216, 216), (218, 218), (220, 269), (290, 291), (297, 299), (350, 359),
    (370, 389), (420, 423), (500, 509), (590, 599), (670, 692), (850, 850), (852, 853), (855, 856), (880, 880),
    (886, 886), (960, 968), (970, 977), (992, 996), (998, 998),
)  # fmt: skip
CALLING = frozenset(str(code) for first, last in _CALLING for code in range(first, last + 1))
# Letters of an IBAN, ISO 13616 registry.
IBAN = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip
_CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100: no I, O, S, V, Z
_CREDIT_WEIGHTS = [pow(3, place, 31) for place in range(17)]
_RESIDENT_WEIGHTS = [pow(2, 17 - place, 11) for place in range(17)]


def luhn(digits: str) -> bool:
    """Bank cards, ISO/IEC 7812."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def issued(digits: str) -> bool:
    """Whether a card's first digits are of an issuer: UnionPay and older Chinese cards, Visa, Mastercard, American
    Express, Discover, JCB, Diners, Maestro."""
    two, four = int(digits[:2]), int(digits[:4])
    return (
        digits[0] == "4"
        or two in (34, 36, 37, 38, 39, 50, 60, 62, 65, 68, 69, 81)
        or 51 <= two <= 58
        or 2221 <= four <= 2720
        or 3000 <= four <= 3059
        or 3528 <= four <= 3589
        or 6304 <= four <= 6499
        or four in (9400, 9558)
    )


def resident(letters: str) -> bool:
    """A Chinese resident's number, GB 11643: 18 letters with a check, or 15 digits without."""
    if not born(letters):
        return False
    if len(letters) == 15:
        return True
    total = sum(int(digit) * weight for digit, weight in zip(letters, _RESIDENT_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == letters[17].upper()


def born(letters: str) -> bool:
    """Whether a resident's number, 15 or 18 letters, names a province and a day."""
    if len(letters) not in (15, 18) or letters[:2] not in PROVINCES or not letters[:17].isdigit():
        return False
    day = letters[6:14] if len(letters) == 18 else f"19{letters[6:12]}"
    try:
        return 1850 <= date(int(day[:4]), int(day[4:6]), int(day[6:])).year < 2100
    except ValueError:
        return False


def credit(letters: str) -> bool:
    """A Chinese unified social credit code, GB 32100, of 18 letters."""
    if not set(letters) <= set(_CREDIT) or not letters[2:8].isdigit():
        return False
    total = sum(_CREDIT.index(letter) * weight for letter, weight in zip(letters, _CREDIT_WEIGHTS, strict=False))
    return _CREDIT[-total % 31] == letters[17]


def iban(letters: str) -> bool:
    """An international bank account number, ISO 13616: the remainder by 97 is 1."""
    return int("".join(str(int(letter, 36)) for letter in letters[4:] + letters[:4])) % 97 == 1


def ssn(digits: str) -> bool:
    """A United States social security number that may have been given out."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def calling(digits: str) -> int:
    """Digits of the country calling code a number begins with; 0 for none."""
    return next((size for size in (1, 2, 3) if digits[:size] in CALLING), 0)

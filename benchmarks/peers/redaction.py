"""Personal data by Presidio's pattern recognisers, and what python-stdnum and phonenumbers say of made-up numbers.

python redaction.py ROWS TEXTS -> {"recall": share of rows found whole by kind,
"found": what it found in texts, "rate": MB a CPU second, "wrong": made-up numbers that are not right}

ROWS: JSON lines of text, start, end, kind, plain. TEXTS: JSON lines of strings. Presidio is asked with all its
recognisers that need no model, English and Chinese ones, of kinds that are made up here; of a Chinese text it knows the
patterns only.
"""

import json
import sys
import time
from pathlib import Path

import phonenumbers
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
from stdnum import iban, luhn
from stdnum.cn import ric, uscc
from stdnum.us import ssn

ENTITIES = ["CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "US_SSN", "US_PASSPORT"]


class Nothing(NlpEngine):
    """No model: texts without words."""

    engine_name = "none"
    is_available = True

    def load(self) -> None: ...
    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        return NlpArtifacts([], [], [], [], self, language)

    def process_batch(self, texts, language, **kwargs):
        for text in texts:
            yield text, self.process_text(text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        return False

    def is_punct(self, word: str, language: str) -> bool:
        return False

    def get_supported_entities(self) -> list[str]:
        return []

    def get_supported_languages(self) -> list[str]:
        return ["en"]


def is_valid(kind: str, plain: str) -> bool | None:
    """What a library says; None where it says nothing of the kind."""
    if kind == "resident":
        return ric.calc_check_digit(plain) == plain[-1] if len(plain) == 18 else None
    if kind == "phone":
        return phonenumbers.is_possible_number(phonenumbers.parse(plain))
    checks = {"card": luhn.is_valid, "credit": uscc.is_valid, "iban": iban.is_valid, "ssn": ssn.is_valid}
    return checks[kind](plain) if kind in checks else None


def main() -> None:
    rows, texts = ([json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
                   for file in sys.argv[1:])  # fmt: skip
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    engine = AnalyzerEngine(registry=registry, nlp_engine=Nothing(), supported_languages=["en"])

    def find(text: str) -> list[tuple[int, int]]:
        return [(one.start, one.end) for one in engine.analyze(text, language="en", entities=ENTITIES)]

    hit: dict[str, list[bool]] = {}
    for row in rows:
        found = any(start <= row["start"] and end >= row["end"] for start, end in find(row["text"]))
        for kind in ("all", row["kind"]):
            hit.setdefault(kind, []).append(found)
    began = time.process_time()
    found = [text[start:end] for text in texts for start, end in find(text)]
    seconds = time.process_time() - began
    said = [(is_valid(row["kind"], row["plain"]), row["plain"]) for row in rows]
    shares = {kind: sum(one) / len(one) for kind, one in hit.items()}
    print(json.dumps({
        "recall": shares, "found": found, "rate": sum(len(text.encode()) for text in texts) / 1e6 / max(seconds, 1e-9),
        "wrong": [plain for valid, plain in said if valid is False], "checked": sum(one is not None for one, _ in said),
    }))  # fmt: skip


if __name__ == "__main__":
    main()

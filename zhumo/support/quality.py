"""How the desk does, told by what was kept: replies by day, how often it is right for how often it answers, and what it
cannot answer."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from zhumo.metrics.calibration import coverage_curve
from zhumo.support.desk import SURE
from zhumo.support.knowledge import FAQ
from zhumo.support.tickets import Tickets

Json = dict[str, Any]
DAYS = 90
REVIEWED = 10_000  # replies the curve is drawn from
POINTS = 100
FAILURES = 50  # shown


def quality(tickets: Tickets) -> Json:
    """Counts of the last 90 days, and the coverage-error curve of what was reviewed."""
    since = (datetime.now(UTC) - timedelta(days=DAYS)).date().isoformat()
    days: dict[str, dict[str, int]] = {}
    for day, kind, verdict, count in tickets.days(since):
        own = days.setdefault(day, dict.fromkeys(("replies", "answer", "handover", "up", "down"), 0))
        for name in ("replies", kind, verdict):
            if name is not None:
                own[name] += count
    reviewed = tickets.reviewed(REVIEWED)
    whole = {name: sum(own[name] for own in days.values()) for name in ("replies", "answer", "handover", "up", "down")}
    return {
        "days": [{"day": day, **own} for day, own in days.items()],
        **whole,
        "coverage": whole["answer"] / whole["replies"] if whole["replies"] else None,
        "intents": intents(tickets.intents(since)),
        **curve(reviewed),
        "failures": failures(reviewed),
    }


def intents(counted: Sequence[tuple[str | None, str, int]]) -> list[Json]:
    """How many replies each intent got, and of what kind, the most frequent first; nothing where none was ever told.

    intent: null is of what none was told: it is like nothing known, or nobody looked.
    """
    found: dict[str | None, dict[str, int]] = {}
    for intent, kind, count in counted:
        own = found.setdefault(intent, {"replies": 0, "answer": 0, "handover": 0})
        own["replies"] += count
        own[kind] += count
    told = [{"intent": intent, **own} for intent, own in found.items()]
    return sorted(told, key=lambda one: -one["replies"]) if found.keys() - {None} else []


def failures(reviewed: Sequence[Json]) -> list[Json]:
    """Questions whose answers visitors found wrong and nobody has corrected, the most frequent first: what was asked,
    how many `times`, and what the newest answer cited."""
    wrong: dict[str, Json] = {}
    for row in reviewed:
        if row["verdict"] == "down" and row["corrected"] is None and row["text"] is None:
            one = wrong.setdefault(row["asked"], {"asked": row["asked"], "times": 0, "citations": row["citations"]})
            one["times"] += 1
    return sorted(wrong.values(), key=lambda one: -one["times"])[:FAILURES]


def curve(reviewed: Sequence[Json]) -> Json:
    """What share of reviewed questions would be answered, and how many of those wrongly, at each bound on sureness.

    A correction says what is right, whatever was done; else a thumb on an answer does. A thumb on a hand-over says
    nothing of what would have been answered. point: where the desk works, at its bound.
    """
    judged = [(row["sureness"], fine) for row in reviewed if (fine := _right(row)) is not None]
    known = np.array([sureness is not None for sureness, _ in judged], dtype=bool)
    sure = np.array([-np.inf if sureness is None else sureness for sureness, _ in judged], dtype=float)
    right = np.array([fine for _, fine in judged], dtype=bool)
    if not known.any():
        return {"reviewed": len(judged), "curve": [], "point": None}
    covered, error = coverage_curve(sure, right)
    bounds = np.unique(sure)[::-1]
    some = np.unique(np.linspace(0, len(bounds) - 1, POINTS).astype(int))
    points = [{"sureness": float(bounds[place]), "coverage": float(covered[place]), "error": float(error[place])}
              for place in some if np.isfinite(bounds[place])]  # fmt: skip
    answered = sure >= SURE
    wrong = float((~right[answered]).mean()) if answered.any() else None
    point = {"sureness": SURE, "coverage": float(answered.mean()), "error": wrong}
    return {"reviewed": len(judged), "curve": points, "point": point}


def _right(row: Json) -> bool | None:
    """Whether what the desk found first is what answers; None where nobody said so."""
    first = row["citations"][0] if row["citations"] else None
    if row["corrected"] is not None:
        return first is not None and first["digest"] == row["corrected"]["digest"]
    if row["text"] is not None:  # in an agent's own words, which are what the FAQ says to that question
        return first is not None and (first["file"], first["headings"]) == (FAQ, [row["asked"]])
    return row["verdict"] == "up" if row["kind"] == "answer" else None


def clusters(vectors: np.ndarray, alike: float) -> list[list[int]]:
    """Which texts ask the same: places of each group, largest first, the one in the middle of a group first.

    Greedy: the text with most others nearer than `alike` takes them all, then the next of those left. vectors: of
    length 1, (texts, width).
    """
    near = vectors @ vectors.T >= alike
    np.fill_diagonal(near, True)
    left = np.ones(len(vectors), dtype=bool)
    found = []
    while left.any():
        counts = (near & left).sum(axis=1) * left
        middle = int(counts.argmax())
        own = np.flatnonzero(near[middle] & left)
        found.append([middle, *(int(place) for place in own if place != middle)])
        left[own] = False
    return found


def bound(strangers: np.ndarray) -> float:
    """The cosine from which two texts ask the same: as far above those of questions that have nothing to do with each
    other as the desk wants an answer to be. strangers: their vectors, (texts, width)."""
    apart = (strangers @ strangers.T)[np.triu_indices(len(strangers), 1)]
    return float(apart.mean() + SURE * apart.std())

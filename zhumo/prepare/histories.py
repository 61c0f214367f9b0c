"""Interactions -> one row a user: what each took, oldest first; and the leave-one-out rows made of it."""

from collections.abc import Iterable, Iterator

from zhumo.prepare.split import Part
from zhumo.tasks import Row


def gather(interactions: Iterable[Row]) -> list[Row]:
    """One row {"user", "items", "times"?} a user, in the order users first appear.

    The sort is stable: interactions of one moment, and all where there are no times, keep the order of the file.
    """
    users: dict[str, list[Row]] = {}
    for interaction in interactions:
        users.setdefault(interaction["user"], []).append(interaction)
    rows = []
    for user, events in users.items():
        events.sort(key=lambda event: event.get("time", 0.0))
        row: Row = {"user": user, "items": [event["item"] for event in events]}
        if all("time" in event for event in events):
            row["times"] = [event["time"] for event in events]
        rows.append(row)
    return rows


def leave_one_out(histories: Iterable[Row]) -> Iterator[tuple[Part, Row]]:
    """Each user's last item is the test and the one before it the validation; fewer than three items only train."""
    for history in histories:
        count = len(history["items"])
        if count < 3:
            yield "train", history
            continue
        yield "train", _until(history, count - 2)
        yield "valid", {**_until(history, count - 2), "next": history["items"][-2:-1]}
        yield "test", {**_until(history, count - 1), "next": history["items"][-1:]}


def _until(history: Row, end: int) -> Row:
    cut = {**history, "items": history["items"][:end]}
    if "times" in history:
        cut["times"] = history["times"][:end]
    return cut

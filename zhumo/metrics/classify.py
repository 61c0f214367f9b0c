"""How often a classifier is right: accuracy, F1, AUC, log-loss."""

from collections.abc import Collection, Sequence
from functools import partial

import numpy as np

from zhumo.metrics.measure import Measure

LEAST = 1e-7  # a probability below it counts as it, or one row could make the log-loss infinite


def accuracy(said: Sequence[str], truth: Sequence[str]) -> Measure:
    """Share of rows whose label is the true one."""
    return Measure("accuracy", np.array([a == b for a, b in zip(said, truth, strict=True)], dtype=float))


def macro_f1(said: Sequence[str], truth: Sequence[str]) -> Measure:
    """F1 of each label that is said or true somewhere, averaged: a rare label counts as much as a frequent one."""
    labels = {label: place for place, label in enumerate(sorted({*said, *truth}))}
    pairs = np.array([[labels[a], labels[b]] for a, b in zip(said, truth, strict=True)])
    return Measure("macro_f1", pairs, partial(_macro_f1, labels=len(labels)))


def _macro_f1(pairs: np.ndarray, labels: int) -> float:
    said, true = np.bincount(pairs[:, 0], minlength=labels), np.bincount(pairs[:, 1], minlength=labels)
    hit = np.bincount(pairs[pairs[:, 0] == pairs[:, 1], 0], minlength=labels)
    met = said + true > 0
    return float((2 * hit[met] / (said + true)[met]).mean())


def auc(scores: np.ndarray, truth: Sequence[str], labels: Sequence[str]) -> list[Measure]:
    """Chance that a row of the second label scores higher on it than one of the first; empty unless there are two.

    scores: (rows, labels).
    """
    if len(labels) != 2:
        return []
    positive = np.array([label == labels[1] for label in truth])
    return [Measure("auc", np.column_stack([scores[:, 1], positive]), _auc)]


def _auc(pairs: np.ndarray) -> float:
    positive = np.sort(pairs[pairs[:, 1] == 1, 0])
    negative = np.sort(pairs[pairs[:, 1] == 0, 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / 2 / len(negative))  # a tie counts half


def unseen_auc(familiar: Sequence[float | None], seen: Sequence[bool]) -> list[Measure]:
    """Chance that a row of a label that training saw is more familiar than one of a label it never saw; empty unless
    there are both, or where an answer does not say how familiar its row is."""
    if all(seen) or not any(seen) or None in familiar:
        return []
    return [Measure("unseen_auc", np.array(list(zip(familiar, seen, strict=True)), dtype=float), _auc)]


def log_loss(scores: np.ndarray, truth: Sequence[str], labels: Sequence[str]) -> Measure:
    """Mean -ln of the probability given to the true label; scores: (rows, labels)."""
    index = {label: place for place, label in enumerate(labels)}
    given = [row[index[label]] if label in index else 0.0 for row, label in zip(scores, truth, strict=True)]
    return Measure("log_loss", -np.log(np.maximum(given, LEAST)), higher_is_better=False)


def exact_match(said: Sequence[Collection[str]], truth: Sequence[Collection[str]]) -> Measure:
    """Accuracy where a row may carry several labels: all of them and no other must be said."""
    return Measure("accuracy", np.array([set(a) == set(b) for a, b in zip(said, truth, strict=True)], dtype=float))


def micro_f1(said: Sequence[Collection[str]], truth: Sequence[Collection[str]]) -> Measure:
    """F1 over all pairs of a row and a label: a frequent label counts more than a rare one."""
    counts = [[len({*a} & {*b}), len({*a}) + len({*b})] for a, b in zip(said, truth, strict=True)]
    return Measure("micro_f1", np.array(counts), _micro_f1)


def _micro_f1(counts: np.ndarray) -> float:
    hit, both = counts.sum(0)
    return float(2 * hit / both) if both else 1.0


def unseen(truth: Sequence[Collection[str]], labels: Collection[str]) -> list[Measure]:
    """Share of rows with a label that training never saw, so that no answer could be right; nothing to say of none."""
    strange = np.array([not set(labels) >= set(wanted) for wanted in truth], dtype=float)
    return [Measure("unseen_labels", strange, higher_is_better=False)] if strange.any() else []

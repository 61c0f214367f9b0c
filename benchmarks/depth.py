"""Depth: tasks, families and faults of issue 4, one function for the rows that begin with its name.

    python -m benchmarks.depth --only weibo-ner

Each function lives in a module of its own; `LEADING` says which row asks for which.
"""

from collections.abc import Callable, Mapping

from benchmarks import prepared, tagging, training, translation, vectors
from benchmarks.harness import Bench

LEADING: Mapping[str, Callable[[Bench], None]] = {
    "weibo-ner.f1": tagging.weibo_ner,
    "prepare.rows": prepared.gigabyte,
    "prepare.damage.unaccounted": prepared.damaged,
    "multi30k.bleu": translation.multi30k,
    "tatoeba.en-zh.over_memory": translation.tatoeba,
    "train.muon.write.steps": training.muon_steps,
    "train.muon.recommend.steps": training.muon_steps,
    "train.muon.write.wall": training.muon_wall,
    "train.logits.memory": training.logits,
    "train.teacher.gain": training.teacher,
    "train.preferences.accuracy": training.preferences,
    "vectors.hard_negatives": vectors.vectors,
    **dict.fromkeys(training.CAMPAIGNS, training.campaigns),
}


def main() -> None:
    bench = Bench("depth", "Rows of issue 4.")
    for measure in dict.fromkeys(measure for name, measure in LEADING.items() if bench.due(name)):
        measure(bench)
    bench.done()


if __name__ == "__main__":
    main()

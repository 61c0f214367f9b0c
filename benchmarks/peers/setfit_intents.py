"""SetFit on a few rows of each label: python setfit_intents.py TASK.json OUT.json.

Runs in an environment of its own, without Zhumo. in: {"model": folder, "test": [{"text", "label"}], "shots": [{"seed",
"rows"}]}; out: {"runs": [{"seed", "accuracy", "seconds"}], "settings": {...}}. Twenty pairs of each kind a row, one
epoch, batches of 16: the settings of the paper (Tunstall et al. 2022); all pairs, today's default, would be 590,000.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

SETTINGS = {"num_iterations": 20, "num_epochs": 1, "batch_size": 16}


def main(task_path: str, out: str) -> None:
    task = json.loads(Path(task_path).read_text(encoding="utf-8"))
    runs = []
    for shots in task["shots"]:
        model = SetFitModel.from_pretrained(task["model"], labels=sorted({row["label"] for row in shots["rows"]}))
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(output_dir=folder, seed=shots["seed"], report_to="none", save_strategy="no",
                                          **SETTINGS)  # fmt: skip
            trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_list(shots["rows"]))
            began = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - began
        said = model.predict([row["text"] for row in task["test"]])
        right = sum(str(one) == row["label"] for one, row in zip(said, task["test"], strict=True))
        runs.append({"seed": shots["seed"], "accuracy": right / len(task["test"]), "seconds": seconds})
    Path(out).write_text(json.dumps({"runs": runs, "settings": SETTINGS}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

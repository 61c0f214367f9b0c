"""sentence-transformers' Trainer, as its users run it: `sentence_transformers_trainer.py TASK.json OUT.json`.

TASK.json names {"start": a folder of weights, "train": rows of "text" and "match", "test": the same, "batch", "rate",
"bf16", "threads", "seed"}; every row is learned once, with MultipleNegativesRankingLoss. OUT.json gets {"seconds" of
the updates, "texts" and "matches": the vectors of `test`, "memory": GB at most, "parameters"}.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

datasets.disable_progress_bars()


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds from the first update's begin to the last one's end."""

    began: float | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.began is not None
        self.seconds = time.perf_counter() - self.began


def main(asked: str, answered: str) -> None:
    task = json.loads(Path(asked).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    model = SentenceTransformer(task["start"], device="cpu")
    rows = datasets.Dataset.from_list([{"anchor": row["text"], "positive": row["match"]} for row in task["train"]])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=answered + ".folder", use_cpu=True, bf16=task["bf16"], num_train_epochs=1,
        per_device_train_batch_size=task["batch"], learning_rate=task["rate"], lr_scheduler_type="cosine",
        warmup_steps=len(rows) // task["batch"] // 20, optim="adamw_torch_fused", report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, seed=task["seed"], dataloader_pin_memory=False,
        prompts={"anchor": model.prompts["query"], "positive": model.prompts["document"]},
    )  # fmt: skip
    clock = Clock()
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=loss, callbacks=[clock]).train()
    model.eval()
    found = {
        name: model.encode([row[column] for row in task["test"]], prompt_name=prompt, normalize_embeddings=True)
        for name, column, prompt in (("texts", "text", "query"), ("matches", "match", "document"))
    }
    told = {
        "seconds": clock.seconds,
        **{name: vectors.tolist() for name, vectors in found.items()},
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    Path(answered).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

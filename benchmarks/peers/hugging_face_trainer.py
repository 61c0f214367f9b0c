"""transformers' Trainer, as its users run it: `hugging_face_trainer.py TASK.json OUT.json`.

TASK.json names {"train", "valid": lists of ids each, "batch", "rate", "bf16", "threads", "seed"}, and either "minutes"
with "shape" (arguments of GPT2Config: a fresh model) or "steps" with "start" and "rank" (PEFT's LoRA beside every
linear layer of those weights, texts of like length side by side), or "steps" with "shape", "gpu": true and "warm": it
then learns on a GPU, and the first "warm" steps are not timed. OUT.json gets {"loss": mean nats a token of all of
`valid`, "seconds" of training, "steps" that were timed, "tokens_per_second" without padding, "memory": GB at most,
"parameters"}.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
TRIED = 6  # updates that are made to see how many fit into the minutes
IGNORED = -100


def batch(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (length - len(row["input_ids"])) for row in rows])
    there = torch.arange(length) < torch.tensor([[len(row["input_ids"])] for row in rows])
    return {"input_ids": ids, "attention_mask": there.long(), "labels": ids.masked_fill(~there, IGNORED)}


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of the updates after the first few."""

    def __init__(self, warm: int) -> None:
        self.warm = warm

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warm:
            self.began = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == args.max_steps:
            self.seconds, self.steps = self._now() - self.began, state.global_step - self.warm

    def _now(self) -> float:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # it is done, and not only asked for
        return time.perf_counter()


def fresh(task: dict[str, Any]) -> Any:
    torch.manual_seed(task["seed"])
    if "shape" in task:
        return GPT2LMHeadModel(GPT2Config(**task["shape"]))
    model: Any = AutoModelForCausalLM.from_pretrained(task["start"], dtype=torch.float32)
    rank = task["rank"]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def learn(task: dict[str, Any], steps: int, folder: str) -> tuple[Any, Clock]:
    clock = Clock(task.get("warm", 0))
    arguments = TrainingArguments(
        output_dir=folder, use_cpu=not task.get("gpu"), bf16=task["bf16"],
        per_device_train_batch_size=task["batch"], max_steps=steps,
        learning_rate=task["rate"], lr_scheduler_type="cosine", warmup_steps=steps // 20, weight_decay=0.1,
        adam_beta2=0.99, optim="adamw_torch_fused", report_to=[], save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=task["seed"], remove_unused_columns=False, dataloader_pin_memory=False,
        train_sampling_strategy="random" if "shape" in task else "group_by_length",
    )  # fmt: skip
    rows: Any = [{"input_ids": ids} for ids in task["train"]]
    model = fresh(task)
    Trainer(model, arguments, data_collator=batch, train_dataset=rows, callbacks=[clock]).train()
    return model.eval(), clock


@torch.no_grad()
def loss(model: Any, texts: list[list[int]]) -> float:
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([text], device=model.device)
        total += F.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="sum").item()
        count += len(text) - 1
    return total / count


def memory() -> float:
    """GB at most, of the GPU if there is one in use."""
    most = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
    return (most or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 1e9


def main(asked: str, answered: str) -> None:
    task = json.loads(Path(asked).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    steps = task.get("steps") or TRIED
    model, clock = learn(task, steps, answered + ".folder")
    if "minutes" in task:
        each = clock.seconds / clock.steps
        model, clock = learn(task, max(1, int(60 * task["minutes"] / each)), answered + ".folder")
    tokens = clock.steps * task["batch"] * sum(map(len, task["train"])) / len(task["train"])
    told = {
        "loss": loss(model, task["valid"]), "seconds": clock.seconds, "steps": clock.steps,
        "tokens_per_second": tokens / clock.seconds,
        "memory": memory(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }  # fmt: skip
    Path(answered).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""sentence-transformers learns from triples (text, match, wrong): python sentence_vectors.py TASK.json OUT.json."""

import json
import sys
import time
from pathlib import Path

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, losses, util
from torch.optim.lr_scheduler import LambdaLR


def main(task_path: str, out: str) -> None:
    """MultipleNegativesRankingLoss, by its own loss and encoder, with our first weights, batch, rate and schedule."""
    task = json.loads(Path(task_path).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    torch.manual_seed(task["seed"])
    model = SentenceTransformer(task["model"], device="cpu")
    loss = losses.MultipleNegativesRankingLoss(model, scale=20.0, similarity_fct=util.cos_sim)
    began, triples, size = time.perf_counter(), task["triples"], task["batch"]
    steps = -(-len(triples) // size) * task["epochs"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=task["lr"], weight_decay=0.01)
    warm = max(1, round(0.1 * steps))
    schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm, (steps - step) / max(1, steps - warm)))
    generator = torch.Generator().manual_seed(task["seed"])
    orders = [torch.randperm(len(triples), generator=generator).tolist() for _ in range(task["epochs"])]
    model.train()
    for part in ([triples[i] for i in order[at : at + size]] for order in orders for at in range(0, len(order), size)):
        value = loss([model.tokenize([row[place] for row in part]) for place in range(3)], None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - began
    model.eval()
    texts, matches = (
        model.encode([row[place] for row in task["test"]], normalize_embeddings=True).tolist() for place in range(2)
    )
    found = {"texts": texts, "matches": matches, "seconds": seconds, "version": sentence_transformers.__version__}
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The character model of nanoGPT's CPU setting, in a plain loop of our own: what our time to a loss is compared with.

    nanogpt.py TEXT THREADS [MINUTES SEED [DEVICE]]

With minutes it is the model of its GPU setting (context 256, 6 layers, 6 heads, width 384) at a batch that a CPU can
make, without dropout, and as many updates as fit; the rest is alike. On a GPU (DEVICE: cuda) the batch is that
setting's 64, and it is compiled and learns in bf16, as there.

The CPU setting's published numbers (nanoGPT README, "I only have a macbook"): context 64, batch 12, 4 layers, 4 heads,
width 128, no dropout, 2,000 updates; AdamW 1e-3 down to 1e-4 by a cosine after 100 updates of warm-up, betas (.9, .99),
weight decay .1, clip 1; a look at the validation loss (20 batches) every 250 updates. Result named there: 1.88.

Prints one JSON line: the loss over the whole validation split after the last update, and what it cost.
"""

import gzip
import json
import math
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONTEXT, BATCH, LAYERS, HEADS, WIDTH, STEPS = (
    (256, 16, 6, 6, 384, 0) if len(sys.argv) > 3 else (64, 12, 4, 4, 128, 2_000)
)
DEVICE = sys.argv[5] if len(sys.argv) > 5 else "cpu"
GPU = DEVICE != "cpu"
if GPU:
    BATCH = 64
TRIED = 6  # updates that are made to see how many fit into the minutes


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, time_, _ = x.shape
        q, k, v = (part.view(batch, time_, HEADS, -1).transpose(1, 2) for part in self.qkv(x).split(WIDTH, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, time_, WIDTH))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.attention = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                last = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * LAYERS) if last else 1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.layers(self.tokens(ids) + self.places.weight[: ids.size(1)])
        return F.linear(self.norm(x), self.tokens.weight)


def windows(data: Tensor) -> tuple[Tensor, Tensor]:
    count = (len(data) - 1) // CONTEXT
    return data[: count * CONTEXT].view(count, CONTEXT), data[1 : count * CONTEXT + 1].view(count, CONTEXT)


@torch.no_grad()
def whole_loss(model: Model, data: Tensor) -> float:
    ids, targets = windows(data)
    total = 0.0
    for start in range(0, len(ids), 128):
        logits = model(ids[start : start + 128])
        total += F.cross_entropy(logits.flatten(0, 1), targets[start : start + 128].flatten(), reduction="sum").item()
    return total / targets.numel()


def main(path: str, threads: int, minutes: float | None = None, seed: int = 1337) -> None:
    began = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    text = gzip.decompress(Path(path).read_bytes()).decode()
    index = {character: place for place, character in enumerate(sorted(set(text)))}
    data = torch.tensor([index[character] for character in text], device=DEVICE)
    train, valid = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
    model = Model(len(index)).to(DEVICE)
    if GPU:
        model.compile()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=GPU)

    def draw(source: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.randint(len(source) - CONTEXT, (BATCH, 1)).to(DEVICE) + torch.arange(CONTEXT, device=DEVICE)
        return source[places], source[places + 1]

    def loss_of(ids: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=GPU):
            return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())

    def learn(steps: int) -> float:
        begun = time.perf_counter()
        for step in range(steps):
            done = (step - 100) / max(1, steps - 100)
            rate = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 9e-4 * (1 + math.cos(math.pi * done)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            if step % 250 == 0 and minutes is None:
                with torch.no_grad():
                    for source in (train, valid):
                        for _ in range(20):
                            loss_of(*draw(source)).item()
            loss = loss_of(*draw(train))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if GPU:
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    if GPU:
        learn(TRIED)  # compiled here, which is not counted
    steps = STEPS if minutes is None else TRIED + int(60 * minutes / (learn(TRIED) / TRIED))
    took = learn(steps - (0 if minutes is None else TRIED))
    seconds = time.perf_counter() - began
    size = sum(parameter.numel() for parameter in model.parameters())
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = (torch.cuda.max_memory_reserved() if GPU else here) / 1e9
    rate = steps * BATCH * CONTEXT / took
    print(json.dumps({"loss": whole_loss(model, valid), "seconds": seconds, "parameters": size,
                      "tokens_per_second": rate, "memory": memory}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:4]), *map(int, sys.argv[4:5]))

"""One vector for a whole text."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zhumo.transformer import Config, Transformer, dropout_of

Pooling = Literal["mean", "cls", "last"]
TOGETHER = {"cpu": 2_048, "cuda": 16_384}  # padded positions that go through the model at once


def pooling_of(pooling: Pooling | None, config: Config) -> Pooling:
    """As the weights were trained; else the mean of an encoder, and of a causal model the last."""
    return pooling or ("last" if config.causal else "mean")


def pool(model: Transformer, ids: Tensor, segments: Tensor, pooling: Pooling | None) -> Tensor:
    """The last hidden states of each text made one vector, (batch, width).

    pooling: as the weights were trained, their mean or the one at the first or last token. None: the mean of an
        encoder; of a causal model the last, since only there the whole text has been seen.
    segments: (batch, time), 0 on padding.
    """
    padded = bool((segments == 0).any())
    x = model.hidden(ids, segments=segments if padded else None)
    pooling = pooling_of(pooling, model.config)
    if pooling == "last":
        return x[torch.arange(len(x), device=x.device), segments.sum(1) - 1]
    if pooling == "cls":
        return x[:, 0]
    counted = segments.unsqueeze(-1).to(x.dtype)
    return (x * counted).sum(1) / counted.sum(1)


def pool_all(model: Transformer, texts: Sequence[tuple[Tensor, Tensor]], pooling: Pooling | None) -> tuple[Tensor, ...]:
    """`pool` of several batches of one text a row, whatever is like long together: little is padded.

    texts: ids and segments of each batch, (batch, time); a row's place is the sample by which dropout knows it.

    Returns:
        The vectors of each batch, (batch, width); zeros where a row has no text.
    """
    device = texts[0][0].device
    ids = [batch[segments != 0] for batch, segments in texts]
    lengths = [length for _, segments in texts for length in (segments != 0).sum(1).tolist()]
    # Looked up at once: each look at a large table costs a gradient as large on the way back.
    looked_up = model.stem.tokens(torch.cat(ids)).split(lengths)
    places = torch.cat([torch.arange(len(batch), device=device) for batch, _ in texts])
    order, vectors = [], []
    for group in _groups(lengths, TOGETHER[device.type]):
        padded = pad_sequence([looked_up[index] for index in group], batch_first=True)
        ends = torch.tensor([lengths[index] for index in group], device=device)
        segments = (torch.arange(padded.size(1), device=device) < ends[:, None]).long()
        with dropout_of(model, places[group]):
            vectors.append(pool(model, padded, segments, pooling))
        order += group
    found = torch.cat(vectors)
    whole = found.new_zeros(len(lengths), found.size(1)).index_copy(0, torch.tensor(order, device=device), found)
    return torch.split(whole, [len(batch) for batch, _ in texts])


def _groups(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The indices of all texts that are not empty, longest first, in groups that have at most `room` positions once
    they are padded, or a single text."""
    group: list[int] = []
    for index in sorted((index for index, length in enumerate(lengths) if length), key=lambda index: -lengths[index]):
        if group and lengths[group[0]] * (len(group) + 1) > room:
            yield group
            group = []
        group.append(index)
    if group:
        yield group

"""Encoders as ONNX graphs: onnxruntime says the same as torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from benchmarks.parity import jitter
from zhumo.errors import ModelError
from zhumo.tasks.pooling import Pooling, pool
from zhumo.transformer import Config, Transformer
from zhumo.weights import write_onnx

BERT = Config(
    vocabulary=97, width=48, depth=2, heads=3, hidden=80, length=24, types=2, causal=False, norm_first=False,
    norm_eps=1e-12, head="none",
)  # fmt: skip
CASES = {
    "bert": BERT,
    "tanh": replace(BERT, activation="gelu_tanh", types=1),
    "relu": replace(BERT, activation="relu", types=0),
    "silu": replace(BERT, activation="silu"),
}


@pytest.mark.parametrize("pooling", ["mean", "cls", None])
@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_says_the_same(name: str, pooling: Pooling | None, tmp_path: Path) -> None:
    model = jitter(Transformer(CASES[name])).eval()
    assert isinstance(model, Transformer)
    path = tmp_path / "model.onnx"
    write_onnx(path, model.state_dict(), model.config, pooling)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = torch.randint(0, 97, (3, 24), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(24) < torch.tensor([[24], [5], [1]])).long()
    found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    with torch.inference_mode():
        states = model.hidden(ids, segments=mask)
        vectors = F.normalize(pool(model, ids, mask, pooling), dim=-1)
    kept = mask.bool().numpy()
    assert np.abs(found[0][kept] - states.numpy()[kept]).max() < 1e-5
    assert len(found) == (1 if pooling is None else 2)
    assert pooling is None or np.abs(found[1] - vectors.numpy()).max() < 1e-5


@pytest.mark.parametrize("change", [{"causal": True}, {"gated": True}, {"positions": "rotary"}, {"norm_first": True}])
def test_another_model_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    model = Transformer(replace(BERT, **{"head_dim": 16, **change}))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="encoders of the BERT family"):
        write_onnx(tmp_path / "model.onnx", model.state_dict(), model.config, None)


def test_a_pooling_it_does_not_write_is_refused(tmp_path: Path) -> None:
    model = Transformer(BERT)
    with pytest.raises(ModelError, match="pooling: last"):
        write_onnx(tmp_path / "model.onnx", model.state_dict(), model.config, "last")

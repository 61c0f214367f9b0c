"""A model on a GPU beside the same on a processor: every decoder family, any cut of any number of texts."""

from dataclasses import replace

import pytest
import torch

from tests.engine.test_native import CASES, IDS, LLAMA, TEXT, model_of, weighted
from zhumo.engine.cuda_model import CudaModel, captures
from zhumo.engine.parts import Part
from zhumo.engine.torch_model import TorchModel
from zhumo.transformer import RowCache

LENGTH = 48


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_a_row_of_texts_at_places_of_their_own_reads_what_each_reads_alone(name: str) -> None:
    model = model_of(name)
    alone = TorchModel(model, slots=3, length=LENGTH)
    known = [Part(0, 0, TEXT[:9]), Part(1, 0, TEXT[:20]), Part(2, 0, TEXT[:1])]
    for cache in alone._caches:
        for layer in cache.layers:
            layer.keys.zero_(), layer.values.zero_()  # what was never written may be anything
    alone.step(known)
    rooms = [torch.stack([torch.cat([getattr(cache.layers[block], part) for cache in alone._caches])
                          for part in ("keys", "values")]) for block in range(model.config.depth)]  # fmt: skip
    assert model.head is not None
    for slots, time in (([0, 1, 2], 1), ([2], 5)):
        starts = torch.tensor([len(known[slot].ids) for slot in slots])
        asked = starts[:, None] + torch.arange(time)
        cache = RowCache(rooms, torch.tensor(slots), asked, 32)
        got = model.head(model.hidden(torch.tensor(TEXT)[asked], cache=cache))
        parts = [Part(slot, int(places[0]), [TEXT[place] for place in places], every=True)
                 for slot, places in zip(slots, asked, strict=True)]  # fmt: skip
        torch.testing.assert_close(got, torch.stack(alone.step(parts)), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_slot_beyond_what_is_looked_at_comes_to_a_number_within_a_window() -> None:
    model = model_of("mistral")
    config = model.config
    rooms = [torch.zeros(2, 2, config.kv_heads, LENGTH, config.head_dim) for _ in range(config.depth)]
    cache = RowCache(rooms, torch.arange(2), torch.tensor([[3], [LENGTH - 1]]), 8)
    assert model.hidden(torch.tensor([[5], [0]]), cache=cache).isfinite().all()
    assert all(room.isfinite().all() for room in rooms)


def test_a_model_whose_steps_cannot_be_captured_is_refused() -> None:
    stretched = replace(LLAMA, rope="dynamic", rope_factor=2.0)
    assert captures(LLAMA) and not captures(stretched)
    with pytest.raises(ValueError, match="captured"):
        CudaModel(weighted(stretched), slots=1, length=LENGTH)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_torch_up_to_bf16(name: str) -> None:
    model = model_of(name)
    core = CudaModel(model, slots=3, length=LENGTH)
    with torch.inference_mode():
        wanted = model(IDS)[0]
    got = torch.cat([core.step([Part(1, place, [token])])[0] for place, token in enumerate(TEXT)]).float()
    whole = core.step([Part(2, 0, TEXT, every=True)])[0].float()
    ends = torch.cat([core.step([Part(0, 0, TEXT[: place + 1])])[0] for place in range(len(TEXT))]).float()
    for found in (got, whole, ends):
        assert found.shape == wanted.shape
        assert (found - wanted).norm() <= 0.03 * wanted.norm()
        assert (found.argmax(-1) == wanted.argmax(-1)).float().mean() >= 0.9


@pytest.mark.gpu
def test_a_text_does_not_depend_on_who_else_is_there() -> None:
    core = CudaModel(model_of("llama"), slots=4, length=LENGTH)
    core.step([Part(2, 0, TEXT[:9])])
    alone = [core.step([Part(2, place, [TEXT[place]])])[0] for place in range(9, 20)]
    core.step([Part(2, 0, TEXT[:9]), Part(0, 0, TEXT[:30]), Part(3, 0, TEXT[:1])])
    for place, wanted in zip(range(9, 20), alone, strict=True):
        others = [Part(0, place + 21, [TEXT[place]]), Part(3, place - 8, [TEXT[place]])]
        assert torch.equal(core.step([others[0], Part(2, place, [TEXT[place]]), others[1]])[1], wanted)


@pytest.mark.gpu
def test_a_slot_that_is_not_asked_stays_what_it_was() -> None:
    core = CudaModel(model_of("llama"), slots=2, length=LENGTH)
    core.step([Part(0, 0, TEXT[:30])])
    wanted = core.step([Part(0, 30, [TEXT[30]])])[0]
    core.step([Part(0, 0, TEXT[:30])])
    for place, token in enumerate(TEXT):
        core.step([Part(1, place, [token])])
    assert torch.equal(core.step([Part(0, 30, [TEXT[30]])])[0], wanted)


@pytest.mark.gpu
def test_a_text_goes_on_past_what_a_graph_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhumo.engine.cuda_model.SHORTEST", 8)
    model = model_of("llama")
    core = CudaModel(model, slots=2, length=LENGTH)
    got = torch.cat([core.step([Part(0, place, [token])])[0] for place, token in enumerate(TEXT)]).float()
    with torch.inference_mode():
        wanted = model(IDS)[0]
    assert (got - wanted).norm() <= 0.03 * wanted.norm()
    assert sorted(core._steps) == [(2, 1, 8), (2, 1, 16), (2, 1, 32), (2, 1, 48)]


@pytest.mark.gpu
def test_the_model_it_was_made_of_stays_where_it_was() -> None:
    model = model_of("llama")
    core = CudaModel(model, slots=1, length=LENGTH)
    assert core.bits == 16 and model.stem.tokens.weight.device.type == "cpu"
    assert model.stem.tokens.weight.dtype == torch.float32

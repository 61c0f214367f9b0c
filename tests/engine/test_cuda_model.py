"""A model on a GPU beside the same on a processor: every decoder family, any cut of any number of texts.

Where there is no GPU its steps are made by the processor, in bf16 too, and not captured: all else is the same.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.engine.test_native import CASES, IDS, LLAMA, TEXT, model_of, weighted
from zhumo.engine.agreement import agree
from zhumo.engine.cuda_model import CudaModel, _Step, captures
from zhumo.engine.parts import Part
from zhumo.engine.torch_model import TorchModel
from zhumo.transformer import RowCache, Transformer

LENGTH = 48
GPU = torch.cuda.is_available()


def cuda_model(model: Transformer, *, slots: int, length: int = LENGTH) -> CudaModel:
    """The real one where there is a GPU, else one whose steps are computed each time they are run."""
    if GPU:
        return CudaModel(model, slots=slots, length=length)
    core = object.__new__(Uncaptured)
    TorchModel.__init__(core, copy.deepcopy(model).bfloat16(), slots=slots, length=length)
    core._steps = {}
    return core


class Uncaptured(CudaModel):
    def _capture(self, asked: Tensor, read: Callable[[], Tensor], compiled: bool) -> _Step:
        logits = read().clone()
        return _Step(SimpleNamespace(replay=lambda: logits.copy_(read())), asked, logits)  # type: ignore[arg-type]


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


def test_a_slot_beyond_what_is_looked_at_sees_something_within_a_window() -> None:
    cache = RowCache([torch.zeros(2, 2, 1, LENGTH, 4)], torch.arange(2), torch.tensor([[3], [LENGTH - 1]]), 8)
    seen = cache.mask(2, torch.float32)[:, 0, 0] == 0
    assert seen.nonzero().tolist() == [[0, 2], [0, 3], [1, 6], [1, 7]], "else some kernels would answer with no number"


def test_a_model_whose_steps_cannot_be_captured_is_refused() -> None:
    stretched = replace(LLAMA, rope="dynamic", rope_factor=2.0)
    assert captures(LLAMA) and not captures(stretched)
    with pytest.raises(ValueError, match="captured"):
        CudaModel(weighted(stretched), slots=1, length=LENGTH)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_torch_up_to_bf16(name: str) -> None:
    model = model_of(name)
    core = cuda_model(model, slots=3, length=LENGTH)
    with torch.inference_mode():
        wanted = model(IDS)[0]
    got = torch.cat([core.step([Part(1, place, [token])])[0] for place, token in enumerate(TEXT)]).float()
    whole = core.step([Part(2, 0, TEXT, every=True)])[0].float()
    ends = torch.cat([core.step([Part(0, 0, TEXT[: place + 1])])[0] for place in range(len(TEXT))]).float()
    for found in (got, whole, ends):
        assert found.shape == wanted.shape
        assert (found - wanted).norm() <= 0.03 * wanted.norm()
        assert (found.argmax(-1) == wanted.argmax(-1)).float().mean() >= 0.9


def test_a_text_does_not_depend_on_who_else_is_there() -> None:
    core = cuda_model(model_of("llama"), slots=4, length=LENGTH)
    core.step([Part(2, 0, TEXT[:9])])
    alone = [core.step([Part(2, place, [TEXT[place]])])[0] for place in range(9, 20)]
    core.step([Part(2, 0, TEXT[:9]), Part(0, 0, TEXT[:30]), Part(3, 0, TEXT[:1])])
    for place, wanted in zip(range(9, 20), alone, strict=True):
        others = [Part(0, place + 21, [TEXT[place]]), Part(3, place - 8, [TEXT[place]])]
        assert torch.equal(core.step([others[0], Part(2, place, [TEXT[place]]), others[1]])[1], wanted)


def test_a_slot_that_is_not_asked_stays_what_it_was() -> None:
    core = cuda_model(model_of("llama"), slots=2, length=LENGTH)
    core.step([Part(0, 0, TEXT[:30])])
    wanted = core.step([Part(0, 30, [TEXT[30]])])[0]
    core.step([Part(0, 0, TEXT[:30])])
    for place, token in enumerate(TEXT):
        core.step([Part(1, place, [token])])
    assert torch.equal(core.step([Part(0, 30, [TEXT[30]])])[0], wanted)


def test_a_text_goes_on_past_what_a_graph_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhumo.engine.cuda_model.SHORTEST", 8)
    model = model_of("llama")
    core = cuda_model(model, slots=2, length=LENGTH)
    got = torch.cat([core.step([Part(0, place, [token])])[0] for place, token in enumerate(TEXT)]).float()
    with torch.inference_mode():
        wanted = model(IDS)[0]
    assert (got - wanted).norm() <= 0.03 * wanted.norm()
    assert sorted(core._steps) == [(2, 1, 8), (2, 1, 16), (2, 1, 32), (2, 1, 48)]


def test_the_model_it_was_made_of_stays_where_it_was() -> None:
    model = model_of("llama")
    core = cuda_model(model, slots=1, length=LENGTH)
    assert core.bits == 16 and model.stem.tokens.weight.device.type == "cpu"
    assert model.stem.tokens.weight.dtype == torch.float32


def test_a_prompt_may_fill_its_room() -> None:
    model = model_of("llama")
    core = cuda_model(model, slots=2, length=len(TEXT))
    got = core.step([Part(1, 0, TEXT)])[0].float()
    with torch.inference_mode():
        wanted = model(IDS)[0, -1:]
    assert (got - wanted).norm() <= 0.03 * wanted.norm()


def test_agreement_is_measured_of_the_steps_that_write(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = model_of("llama"), list[Part]()
    core = cuda_model(model, slots=2)
    step = core.step
    monkeypatch.setattr(core, "step", lambda parts: (asked.extend(parts), step(parts))[1])
    found = agree(model, core, [TEXT, TEXT[:2]])
    assert found.tokens == len(TEXT) // 2 + 1 + 1 and found.top >= 0.9 and abs(found.perplexity - 1) < 0.05
    assert not any(part.every for part in asked) and max(len(part.ids) for part in asked) == (len(TEXT) - 1) // 2

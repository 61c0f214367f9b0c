"""Beam search finds what transformers' finds, and what there is to find."""

from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from benchmarks.parity import CASES, TWO_SIDED, Case, jitter, load_ours, our_config, their_folder
from zhumo.transformer import Config, Transformer
from zhumo.transformer.beam import beam_search

STOP = 5
# transformers' own cache is made for as many layers as the encoder has, so its decoder may not be deeper.
WITH_HEAD = [case for case in CASES if case.family in TWO_SIDED and not case.bare]
SEARCHED = [case for case in WITH_HEAD if our_config(case).depth <= our_config(case).encoder_depth]


@pytest.mark.parametrize("case", SEARCHED, ids=lambda case: f"{case.family}, {case.name}")
def test_the_same_text_is_found_as_by_transformers(case: Case, tmp_path: Path) -> None:
    theirs = their_folder(case, tmp_path)
    theirs.generation_config = GenerationConfig()  # type: ignore[assignment]  # theirs forces an end
    ours = load_ours(tmp_path)
    for length, beams, penalty in product((2, 6), (1, 2, 4), (0.0, 0.6, 1.0, 2.0)):
        source = torch.randint(6, 67, (1, length), generator=torch.Generator().manual_seed(length))
        wanted = theirs.generate(  # type: ignore[operator]
            source,
            generation_config=GenerationConfig(
                num_beams=beams,
                do_sample=False,
                length_penalty=penalty,
                max_new_tokens=12,
                early_stopping=False,
                eos_token_id=STOP,
                pad_token_id=STOP,
                decoder_start_token_id=0,
            ),
        )
        text = wanted[0, 1:].tolist()
        found = beam_search(
            ours, source[0].tolist(), start=0, stop=STOP, never=(), beams=beams, penalty=penalty, max_tokens=12
        )
        assert found.ids == (text[: text.index(STOP)] if STOP in text else text)


def _small() -> Transformer:
    config = Config(vocabulary=4, width=8, depth=2, encoder_depth=1, heads=2, length=8)
    torch.manual_seed(0)  # biases keep what they begin with
    model = jitter(Transformer(config), seed=2)
    assert isinstance(model, Transformer)
    return model


@torch.no_grad()
def test_a_search_as_wide_as_the_language_finds_the_best_of_all_texts() -> None:
    """With 4 words and at most 3 of them, every text can be counted."""
    model, source = _small(), [1, 3, 2]
    read = model.read(torch.tensor([source]))

    def score(ids: tuple[int, ...]) -> float:
        logits = model(torch.tensor([[0, *ids[:-1]]]), source=read).log_softmax(-1)[0]
        return sum(float(logits[place, token]) for place, token in enumerate(ids)) / len(ids)

    texts = [(*words, 0) for n in (0, 1, 2) for words in product((1, 2, 3), repeat=n)]
    texts += list(product((1, 2, 3), repeat=3))
    best = max(texts, key=score)
    found = beam_search(model, source, start=0, stop=0, never=(), beams=64, penalty=1.0, max_tokens=3)
    assert found.score == pytest.approx(score(best), abs=1e-5)
    assert found.ids == [token for token in best if token != 0]


def test_a_higher_penalty_never_finds_a_shorter_text() -> None:
    model = _small()
    lengths = [
        len(beam_search(model, [1, 2], start=0, stop=0, never=(), beams=2, penalty=penalty, max_tokens=8).ids)
        for penalty in (-4.0, 0.0, 1.0, 4.0)
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]


def test_what_cannot_be_searched_is_refused() -> None:
    decoder = Transformer(Config(vocabulary=4, width=8, depth=1, heads=2))
    for model, source in ((decoder, [1]), (_small(), [])):
        with pytest.raises(ValueError, match="needs a source"):
            beam_search(model, source, start=0, stop=0, never=(), beams=2, penalty=1.0, max_tokens=3)
        with pytest.raises(ValueError, match="at least one token"):
            beam_search(_small(), [1], start=0, stop=0, never=(), beams=2, penalty=1.0, max_tokens=0)


def test_what_may_never_be_said_is_not() -> None:
    model = _small()
    said = [
        beam_search(model, [1, 2], start=0, stop=0, never=never, beams=2, penalty=4.0, max_tokens=8).ids
        for never in ([], [1], [2], [3], [1, 2])
    ]
    assert {1, 2, 3} & set(said[0])
    for ids, never in zip(said, ([], [1], [2], [3], [1, 2]), strict=True):
        assert ids and not set(ids) & set(never)

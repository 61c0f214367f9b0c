"""Published weights: MiniLM, multilingual-e5-small and SmolLM2-135M-Instruct beside the programs they were made for."""

import pytest
import transformers

from benchmarks.published import (
    E5_COSINE,
    LOGITS,
    MINILM_COSINE,
    TEXTS,
    Engine,
    e5_cosine,
    minilm_cosine,
    minilm_difference,
    model_of,
    smollm_difference,
    vector,
)
from zhumo.sources import fetch
from zhumo.weights import read_weights

pytestmark = pytest.mark.net  # unless they lie in the cache, the weights are downloaded

CHAT = [
    {"role": "user", "content": "What is the capital of France? 法国的首都是哪里？"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        return Engine()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_minilm_has_the_hidden_states_of_transformers() -> None:
    assert minilm_difference() <= LOGITS


def test_minilm_has_the_embeddings_of_sentence_transformers() -> None:
    assert minilm_cosine() >= MINILM_COSINE


def test_minilm_says_what_it_is() -> None:
    weights = read_weights(fetch("minilm"))
    assert (weights.family, weights.pooling, weights.normalise) == ("bert", "mean", True)
    assert (weights.prefixes, weights.licence) == (None, "apache-2.0")


def test_e5_has_the_embeddings_of_its_own_engine(engine: Engine) -> None:
    assert e5_cosine(engine) >= E5_COSINE


def test_e5_has_the_tokens_of_its_own_engine(engine: Engine) -> None:
    weights = read_weights(fetch("multilingual-e5-small"))
    assert (weights.config.width, weights.config.depth, weights.config.vocabulary) == (384, 12, 250_037)
    assert weights.tokenizer is not None
    assert weights.prefixes == ("query: ", "passage: ")
    for text in TEXTS:
        assert len(weights.tokenizer.encode(f"query: {text}")) == engine.count(text, query=True), text


def test_e5_puts_the_same_question_in_two_languages_side_by_side() -> None:
    weights = read_weights(fetch("multilingual-e5-small"))
    model = model_of(weights)
    questions = (TEXTS[0], "如何重置我的密码？", "今天天气很好")
    english, chinese, other = (vector(weights, model, f"query: {text}") for text in questions)
    assert english @ chinese > english @ other + 0.05


def test_smollm_has_the_logits_of_transformers() -> None:
    assert smollm_difference() <= LOGITS


def test_smollm_has_the_tokens_and_the_chat_of_transformers() -> None:
    path = fetch("smollm2-135m-instruct")
    weights = read_weights(path)
    assert (weights.family, weights.config.head, weights.licence) == ("llama", "tied", "apache-2.0")
    ours = weights.tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert ours is not None
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text
    rendered = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert ours.render(CHAT, prompt=True) == rendered
    ids = [token for token, _ in ours.encode_chat(CHAT, prompt=True)]
    assert ids == theirs(rendered)["input_ids"]
    assert (ours.special("bos"), ours.special("eos"), ours.special("pad")) == (1, 2, 2)

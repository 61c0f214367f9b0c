"""The tokenizer of a `.gguf` file: byte-level BPE in GPT-2's manner, or the BPE of SentencePiece; with its template."""

from collections.abc import Callable, Mapping

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from zhumo.errors import ModelError
from zhumo.tokenizer import Tokenizer
from zhumo.weights.gguf import Fact, Gguf

_GPT2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Cut where `pattern` says, then spell bytes as letters."""
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
_WORDS += r"|\s*[\r\n]+|\s+(?!\S)|\s+"

SPLITS: Mapping[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": lambda: _GPT2_SPLIT,
    "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2_SPLIT]),
    "llama-bpe": lambda: _split(_WORDS.format(digits="{1,3}")),
    "qwen2": lambda: _split(_WORDS.format(digits="")),
}
"""How a text is cut before its pieces are merged, by `tokenizer.ggml.pre`."""

_CONTROL, _USER_DEFINED = 3, 4
_ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
_SPACE = "\u2581"  # how SentencePiece writes a blank


def read_tokenizer(file: Gguf, vocabulary: int) -> Tokenizer:
    """The tokenizer of the file, with its special tokens and chat template.

    vocabulary: embeddings there are for its tokens.

    Raises:
        ModelError: a kind of tokenizer we do not know, or one that does not fit together.
    """
    facts = file.facts
    kind, pre = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if not isinstance(kind, str) or kind not in KINDS or (kind == "gpt2" and pre not in SPLITS):
        raise ModelError("weights.gguf_tokenizer", path=file.path, kind=kind, pre=pre, known=", ".join(SPLITS))
    tokens = _texts(file, "tokens")
    backend = KINDS[kind](file, tokens)
    for added, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        words = [token for token, found in zip(tokens, _kinds(file, len(tokens)), strict=True) if found == added]
        backend.add_tokens([AddedToken(word, normalized=False, special=special) for word in words])
    config = {role: tokens[place] for name, role in _ROLES.items() if (place := _place(file, name, tokens)) is not None}
    if facts.get("tokenizer.ggml.add_bos_token", kind == "llama") is True and "bos_token" in config:
        bos = config["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokens.index(bos))]
        )
    template = facts.get("tokenizer.chat_template")
    tokenizer = Tokenizer(backend, config | ({"chat_template": template} if isinstance(template, str) else {}))
    if tokenizer.size > vocabulary:
        raise ModelError("weights.tensors", path=file.path, problem=f"{tokenizer.size} tokens, {vocabulary} embeddings")
    return tokenizer


def _byte_level(file: Gguf, tokens: list[str]) -> Backend:
    """The 256 bytes spelled as letters, merged in the order the file says."""
    merges = [tuple(merge.split(" ")) for merge in _texts(file, "merges")]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    pairs = [(merge[0], merge[1]) for merge in merges if len(merge) == 2]
    strangers = [merge for merge in pairs if not {*merge, "".join(merge)} <= vocabulary.keys()]
    if len(pairs) < len(merges) or strangers or len(vocabulary) < len(tokens):
        raise file.fail("the tokenizer's merges or tokens do not fit together")
    backend, pre = Backend(models.BPE(vocabulary, pairs)), str(file.facts["tokenizer.ggml.pre"])
    backend.pre_tokenizer = SPLITS[pre]()
    backend.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    return backend


def _sentence_pieces(file: Gguf, tokens: list[str]) -> Backend:
    """Whole characters, and bytes where there is no such character, merged into the piece of the highest score.

    SentencePiece knows no list of merges: any two neighbours may become one piece. The list that means the same holds
    every cut of every piece in two, those of the best piece first.
    """
    vocabulary, scores = {token: place for place, token in enumerate(tokens)}, _many(file, "scores")
    known = all(isinstance(score, float) for score in scores) and len(scores) == len(vocabulary) == len(tokens)
    if not known or max(map(len, tokens)) > LONGEST_PIECE:
        raise file.fail("the tokenizer's scores or tokens do not fit together")
    cuts = [
        (-score, -cut, cut - len(piece), place, piece[:cut], piece[cut:])
        for place, (piece, score) in enumerate(zip(tokens, scores, strict=True))
        if isinstance(score, float)
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    pairs = [(left, right) for *_, left, right in sorted(cuts)]
    unknown = _place(file, "unknown", tokens)
    word = None if unknown is None else tokens[unknown]
    backend = Backend(models.BPE(vocabulary, pairs, unk_token=word, fuse_unk=True, byte_fallback=True))
    led = file.facts.get("tokenizer.ggml.add_space_prefix", True) is True
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, "first" if led else "never", split=False)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", left=1)] if led else steps)
    return backend


LONGEST_PIECE = 1024
KINDS: Mapping[str, Callable[[Gguf, list[str]], Backend]] = {"gpt2": _byte_level, "llama": _sentence_pieces}
"""By `tokenizer.ggml.model`."""


def _texts(file: Gguf, name: str) -> list[str]:
    return [text for text in _many(file, name) if isinstance(text, str)]


def _kinds(file: Gguf, count: int) -> list[Fact]:
    kinds = _many(file, "token_type")
    if len(kinds) != count:
        raise file.fail("tokenizer.ggml.token_type")
    return kinds


def _many(file: Gguf, name: str) -> list[Fact]:
    found = file.facts.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list):
        raise file.fail(f"tokenizer.ggml.{name}")
    return list(found)


def _place(file: Gguf, name: str, tokens: list[str]) -> int | None:
    """The id of a special token; files without it, or with -1 for none, have none."""
    place = file.facts.get(f"tokenizer.ggml.{name}_token_id")
    if not isinstance(place, int) or not 0 <= place < len(tokens):
        return None
    return place

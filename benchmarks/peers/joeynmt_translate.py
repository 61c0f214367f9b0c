"""Joey NMT learns to translate for as long as it is given. `python joeynmt_translate.py IN OUT`, both JSON.

Runs in an environment of its own, without Zhumo. in: {"train", "valid": [[source, target]], "test": [source],
"minutes", "threads", "vocabulary"}; out: {"translations": [...], "updates", "valid_bleu"}. The weights that were best
on the validation rows answer, with a beam of 5.

The network is as wide and deep as the one it is compared with. The rest is the recipe of Joey NMT's own Transformers
for small data (tied embeddings, label smoothing .1, xavier), but for smaller batches and a rate that rises faster and
higher than there: at 1,600 tokens a second half an hour holds 700 updates of its usual 4,096 tokens.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from joeynmt.helpers import make_model_dir
from joeynmt.helpers_for_ddp import get_logger
from joeynmt.prediction import test
from joeynmt.training import train

SIDES = ("src", "trg")
EVERY = 250  # updates between two looks at the validation rows


def interrupt(*_: object) -> None:
    """Joey NMT ends its training when it is interrupted, and keeps what was best."""
    raise KeyboardInterrupt


def write(folder: Path, asked: dict[str, Any]) -> None:
    """The rows as files of one sentence a line, and pieces that both languages share."""
    test_rows = [[source, "-"] for source in asked["test"]]  # it wants references, and is given none
    for part, rows in (("train", asked["train"]), ("valid", asked["valid"]), ("test", test_rows)):
        for place, side in enumerate(SIDES):
            lines = [" ".join(row[place].split()) for row in rows]
            (folder / f"{part}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=[str(folder / f"train.{side}") for side in SIDES], model_prefix=str(folder / "pieces"),
        vocab_size=asked["vocabulary"], model_type="bpe", character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    own = [pieces.id_to_piece(number) for number in range(pieces.vocab_size()) if not pieces.is_control(number)]
    known = [piece for piece in own if piece != "<unk>"]
    (folder / "pieces.txt").write_text("\n".join(known) + "\n", encoding="utf-8")


def settings(folder: Path) -> dict[str, Any]:
    """Joey NMT's configuration."""
    text = {"max_length": 96, "lowercase": False, "normalize": False, "level": "bpe", "voc_min_freq": 1,
            "voc_file": str(folder / "pieces.txt"), "tokenizer_type": "sentencepiece",
            "tokenizer_cfg": {"model_file": str(folder / "pieces.model"), "pretokenizer": "none"}}  # fmt: skip
    stack = {"type": "transformer", "num_layers": 3, "num_heads": 4, "hidden_size": 192, "ff_size": 768,
             "dropout": 0.15, "layer_norm": "pre",
             "embeddings": {"embedding_dim": 192, "scale": True, "dropout": 0.0}}  # fmt: skip
    return {
        "name": "multi30k", "model_dir": str(folder / "model"), "use_cuda": False, "random_seed": 0,
        "data": {"train": str(folder / "train"), "dev": str(folder / "valid"), "test": str(folder / "test"),
                 "dataset_type": "plain", **{side: {"lang": side, **text} for side in SIDES}},
        "testing": {"beam_size": 5, "beam_alpha": 1.0, "batch_size": 100, "batch_type": "sentence",
                    "max_output_length": 96, "eval_metrics": ["bleu"], "sacrebleu_cfg": {"tokenize": "13a"}},
        "training": {"optimizer": "adam", "adam_betas": [0.9, 0.98], "normalization": "tokens",
                     "scheduling": "warmupinversesquareroot", "learning_rate": 0.0007, "learning_rate_warmup": 400,
                     "learning_rate_min": 1e-9, "label_smoothing": 0.1, "loss": "crossentropy", "batch_size": 1024,
                     "batch_type": "token", "early_stopping_metric": "bleu", "epochs": 10_000, "clip_grad_norm": 1.0,
                     "validation_freq": EVERY, "logging_freq": 50, "shuffle": True, "keep_best_ckpts": 1,
                     "print_valid_sents": [0]},
        "model": {"initializer": "xavier_uniform", "bias_initializer": "zeros", "init_gain": 1.0,
                  "embed_initializer": "xavier_uniform", "embed_init_gain": 1.0,
                  "tied_embeddings": True, "tied_softmax": True, "encoder": dict(stack), "decoder": dict(stack)},
    }  # fmt: skip


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(asked["threads"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, asked)
        model = folder / "model"
        make_model_dir(model)
        get_logger("", log_file=str(model / "train.log"))
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 60 * asked["minutes"])
        train(rank=0, world_size=None, cfg=settings(folder), skip_test=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        best = torch.load(model / "best.ckpt", map_location="cpu", weights_only=False)["stats_state"]
        test(settings(folder), output_path=str(folder / "out"))
        translations = (folder / "out.test").read_text(encoding="utf-8").splitlines()
        last = torch.load(model / "latest.ckpt", map_location="cpu", weights_only=False)["stats_state"]
    found = {"translations": translations, "updates": last["steps"], "valid_bleu": best["best_ckpt_score"]}
    Path(sys.argv[2]).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()

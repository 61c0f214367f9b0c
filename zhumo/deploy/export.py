"""A bundle's model in the forms other programs read, beside those it has: `export/` of the bundle.

A Hugging Face folder and, of an embed bundle, one of sentence-transformers it is anyway.
"""

from collections.abc import Sequence

from zhumo.bundle import Bundle
from zhumo.errors import ModelError
from zhumo.tasks.embed import Embed
from zhumo.tasks.pooling import pooling_of
from zhumo.weights import write_gguf, write_onnx
from zhumo.weights.blocks import F16, F32, Q8_0

FOLDER, ONNX = "export", "onnx"
GGUF = {"gguf-f32": F32, "gguf-f16": F16, "gguf-q8_0": Q8_0}


def export(bundle: Bundle, forms: Sequence[str]) -> None:
    """Write `export/model.onnx`, `export/model-F16.gguf` and their like.

    Raises:
        ModelError: a form that does not know this model.
    """
    model, task, folder = bundle.model, bundle.task, bundle.folder / FOLDER
    folder.mkdir(exist_ok=True)
    own = model.config.head != "none"
    state = {name: tensor for name, tensor in model.state_dict().items() if own or not name.startswith("head.")}
    for form in forms:
        if form == ONNX:
            pooling = pooling_of(task.state.get("pooling"), model.config) if isinstance(task, Embed) else None
            write_onnx(folder / "model.onnx", state, model.config, pooling)
        elif bundle.tokenizer is None:
            raise ModelError("export.gguf", problem="a model without a tokenizer")
        else:
            path = folder / f"model-{GGUF[form].name}.gguf"
            write_gguf(path, state, model.config, bundle.family, bundle.tokenizer, GGUF[form])

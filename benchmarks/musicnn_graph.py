"""The published weights of musicnn as a frozen graph of TensorFlow, for Essentia.

    python benchmarks/musicnn_graph.py musicnn-0.1.0-py3-none-any.whl msd-musicnn.pb

`pip download --no-deps musicnn==0.1.0` has the weights (ISC). Essentia's own algorithm
`TensorflowPredictMusiCNN` runs the graph: its placeholders and outputs have the names that it looks
for. A `GraphDef` is written byte by byte, since TensorFlow is not needed for anything else.
"""

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtag.train.importing.musicnn import read_musicnn

FLOAT, INTEGER = 1, 3
"""Types of tensors: DT_FLOAT, DT_INT32."""
PRODUCER = 27
"""Version of graphs of TensorFlow 1.15."""
EPSILON = 1e-3
FRONT = ("front.0", "front.1", "front.2", "front.3", "front.4")


def varint(value: int) -> bytes:
    """A number as Protocol Buffers write it."""
    value &= 2**64 - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def number(field: int, value: int) -> bytes:
    """A field with a whole number."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes | str) -> bytes:
    """A field with bytes, a text or a message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def shape(sizes: Sequence[int]) -> bytes:
    """A `TensorShapeProto`."""
    return b"".join(text(2, number(1, size)) for size in sizes)


def type_of(kind: int) -> bytes:
    """An attribute that is a type."""
    return number(6, kind)


def flag(value: bool) -> bytes:
    """An attribute that is true or false."""
    return number(5, int(value))


def integers(values: Sequence[int]) -> bytes:
    """An attribute that is a list."""
    return text(1, b"".join(number(3, value) for value in values))


class Graph:
    """A graph that grows node by node."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._n_constants = 0

    def node(self, name: str, kind: str, *inputs: str, **attributes: bytes) -> str:
        """Adds a node, and returns its name."""
        body = text(1, name) + text(2, kind) + b"".join(text(3, one) for one in inputs)
        for key, value in attributes.items():
            body += text(5, text(1, key) + text(2, value))
        self._nodes.append(text(1, body))
        return name

    def floats(self, name: str, kind: str, *inputs: str, **attributes: bytes) -> str:
        """Adds a node whose type `T` is float."""
        return self.node(name, kind, *inputs, T=type_of(FLOAT), **attributes)

    def constant(self, values: npt.ArrayLike) -> str:
        """Adds a constant: floats, or whole numbers."""
        array = np.asarray(values)
        is_whole = array.dtype.kind == "i"
        kind, array = INTEGER if is_whole else FLOAT, array.astype("<i4" if is_whole else "<f4")
        tensor = number(1, kind) + text(2, shape(array.shape)) + text(4, array.tobytes())
        self._n_constants += 1
        name = f"constant_{self._n_constants}"
        return self.node(name, "Const", dtype=type_of(kind), value=text(8, tensor))

    def bytes(self) -> bytes:
        """The `GraphDef`."""
        return b"".join(self._nodes) + text(4, number(1, PRODUCER))


class MusicnnGraph(Graph):
    """musicnn with the weights that `read_musicnn` has read."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        super().__init__()
        self._state = state
        sizes = text(7, shape([-1, 187, 96]))
        frames = self.node("model/Placeholder", "Placeholder", dtype=type_of(FLOAT), shape=sizes)
        image = self.floats("image", "ExpandDims", frames, self.constant([3]))
        x = self._norm("input_bn", image)
        found = [self._reduced(f"{one}.max", "Max", self._conv(one, x), [2], True) for one in FRONT]
        first = self._joined("front", found, 3)
        one = self._conv("middle.0", first)
        two = self.floats("sum_1", "AddV2", self._conv("middle.1", one), one)
        three = self.floats("sum_2", "AddV2", self._conv("middle.2", two), two)
        every = self._joined("every", [first, one, two, three], 3)
        pools = [self._reduced(kind, kind, every, [1, 2], False) for kind in ("Max", "Mean")]
        pair = self.floats("pair", "Pack", *pools, N=number(3, 2), axis=number(3, 2))
        flat = self.floats("flat", "Reshape", pair, self.constant([-1, 2 * 753]))
        hidden = self._dense("dense_1", self._scaled("pool_bn", flat))
        hidden = self._scaled("dense_1_bn", self.floats("hidden", "Relu", hidden))
        self.floats("model/Sigmoid", "Sigmoid", self._dense("dense_2", hidden))

    def _norm_arrays(self, name: str) -> list[np.ndarray]:
        parts = ("weight", "bias", "running_mean", "running_var")
        return [self._state[f"{name}.{part}"] for part in parts]

    def _norm(self, name: str, x: str) -> str:
        """Batch normalisation of images."""
        values = [self.constant(array) for array in self._norm_arrays(name)]
        epsilon = varint(4 << 3 | 5) + struct.pack("<f", EPSILON)
        return self.floats(
            f"{name}.norm", "FusedBatchNormV3", x, *values,
            U=type_of(FLOAT), epsilon=epsilon, is_training=flag(False),
        )  # fmt: skip

    def _scaled(self, name: str, x: str) -> str:
        """Batch normalisation of rows."""
        gamma, beta, mean, variance = self._norm_arrays(name)
        scale = gamma / np.sqrt(variance + EPSILON)
        scaled = self.floats(f"{name}.scaled", "Mul", x, self.constant(scale))
        return self.floats(f"{name}.norm", "AddV2", scaled, self.constant(beta - mean * scale))

    def _conv(self, name: str, x: str) -> str:
        """A convolution that keeps the frames, ReLU, batch normalisation."""
        kernel = self._state[f"{name}.conv.weight"]  # out, in[, bands], frames
        kernel = kernel if kernel.ndim == 4 else kernel[:, :, None]
        k = kernel.shape[-1]
        before = (k - 1) // 2
        edges = self.constant([[0, 0], [before, k - 1 - before], [0, 0], [0, 0]])
        padded = self.floats(f"{name}.pad", "Pad", x, edges)
        weights = self.constant(kernel.transpose(3, 2, 1, 0))
        made = self.floats(
            f"{name}.conv", "Conv2D", padded, weights,
            strides=integers([1, 1, 1, 1]), padding=text(2, "VALID"),
        )  # fmt: skip
        biases = self.constant(self._state[f"{name}.conv.bias"])
        made = self.floats(f"{name}.bias", "BiasAdd", made, biases)
        return self._norm(f"{name}.bn", self.floats(f"{name}.relu", "Relu", made))

    def _reduced(self, name: str, kind: str, x: str, axes: list[int], keeps: bool) -> str:
        return self.floats(name, kind, x, self.constant(axes), keep_dims=flag(keeps))

    def _joined(self, name: str, parts: list[str], axis: int) -> str:
        place = self.constant(axis)
        return self.floats(name, "ConcatV2", *parts, place, N=number(3, len(parts)))

    def _dense(self, name: str, x: str) -> str:
        weights = self.constant(self._state[f"{name}.weight"].T)
        made = self.floats(f"{name}.product", "MatMul", x, weights)
        return self.floats(name, "BiasAdd", made, self.constant(self._state[f"{name}.bias"]))


def write_graph(weights: Path, graph: Path) -> None:
    """Writes the graph of published weights."""
    state = {name: tensor.numpy() for name, tensor in read_musicnn(weights).items()}
    graph.write_bytes(MusicnnGraph(state).bytes())


if __name__ == "__main__":
    write_graph(Path(sys.argv[1]), Path(sys.argv[2]))

"""Checkpoints of TensorFlow 1: what a small writer of the same format has written is read back."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from train.test_nets import net_with_history

from streamtag.errors import BundleError
from streamtag.train.importing.checkpoint import read_checkpoint
from streamtag.train.importing.musicnn import BLOCKS, FOLDER
from streamtag.train.importing.tensorflow import MAGIC, read_variables


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer."""
    made = b""
    for number, value in fields:
        if isinstance(value, int):
            made += varint(number << 3) + varint(value)
        else:
            made += varint(number << 3 | 2) + varint(len(value)) + value
    return made


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Sorted entries that share the beginnings of their keys; the trailer says uncompressed."""
    made, before = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), 0)
        made += varint(shared) + varint(len(key) - shared) + varint(len(value))
        made += key[shared:] + value
        before = key
    return made + struct.pack("<II", 0, 1) + b"\0" + b"\0" * 4


def checkpoint(variables: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint, with a counter that is no float."""
    entries, data = [(b"", message((1, 1)))], b""
    for name in sorted(variables):
        values = variables[name].astype("<f4")
        shape = b"".join(message((2, message((1, size)))) for size in values.shape)
        at, size = len(data), values.nbytes
        entry = message((1, 1), (2, shape), (4, at), (5, size)) + b"\x35abcd"  # and a checksum
        entries.append((name.encode(), entry))
        data += values.tobytes()
    entries.append((b"~step", message((1, 9), (5, 8))))
    first = block(entries)
    second = block([(b"~", varint(0) + varint(len(first) - 5))])
    handles = varint(0) + varint(0) + varint(len(first)) + varint(len(second) - 5)
    return first + second + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC), data


VARIABLES = {
    "conv2d/kernel": np.arange(24.0).reshape(2, 3, 1, 4),
    "conv2d/bias": np.arange(300.0),
    "dense/scale": np.array(7.0),
}


def test_variables_are_read() -> None:
    found = read_variables(*checkpoint(VARIABLES))
    assert found.keys() == VARIABLES.keys()
    for name, values in VARIABLES.items():
        np.testing.assert_array_equal(found[name], values)


def test_damage_is_an_error() -> None:
    index, data = checkpoint(VARIABLES)
    with pytest.raises(ValueError, match="no footer"):
        read_variables(index[:-1], data)
    with pytest.raises(ValueError, match="its data has no"):
        read_variables(index, data[:-1])
    for at in range(len(index) - 8):
        for byte in (0, 1, 127, 255):
            broken = index[:at] + bytes([byte]) + index[at + 1 :]
            try:
                read_variables(broken, data)
            except ValueError:
                continue


def arrays_of(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The variables of a checkpoint with these weights of our net."""
    made = {}
    norms = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
    norms["moving_variance"] = "running_var"
    ours = ["input_bn", *(f"{name}.bn" for name in BLOCKS.values()), "pool_bn", "dense_1_bn"]
    for i, name in enumerate(ours):
        layer = f"batch_normalization_{i}" if i else "batch_normalization"
        made |= {f"{layer}/{part}": state[f"{name}.{o}"].numpy() for part, o in norms.items()}
    for i, name in enumerate(BLOCKS.values()):
        layer = f"conv2d_{i}" if i else "conv2d"
        kernel = state[f"{name}.conv.weight"].numpy()
        kernel = kernel[:, :, None] if kernel.ndim == 3 else kernel
        made[f"{layer}/kernel"] = kernel.transpose(3, 2, 1, 0)
        if name.startswith("middle"):  # (time, in, 1, out)
            made[f"{layer}/kernel"] = made[f"{layer}/kernel"].transpose(0, 2, 1, 3)
        made[f"{layer}/bias"] = state[f"{name}.conv.bias"].numpy()
    for layer, name in (("dense", "dense_1"), ("dense_1", "dense_2")):
        made[f"{layer}/kernel"] = state[f"{name}.weight"].numpy().T
        made[f"{layer}/bias"] = state[f"{name}.bias"].numpy()
    return made


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    net = net_with_history("pons-musicnn", 50)
    return {k: v for k, v in net.state_dict().items() if not k.endswith("tracked")}


@pytest.mark.parametrize("form", ["wheel", "index"])
def test_musicnns_weights(form: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    index, data = checkpoint(arrays_of(state))
    if form == "wheel":
        path = tmp_path / "musicnn.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{FOLDER}.index", index)
            archive.writestr(f"{FOLDER}.data-00000-of-00001", data)
    else:
        path = tmp_path / ".index"
        path.write_bytes(index)
        (tmp_path / ".data-00000-of-00001").write_bytes(data)
    found = read_checkpoint(path)
    assert found.keys() == state.keys()
    for name, values in state.items():
        assert torch.equal(found[name], values), name


def test_musicnns_weights_that_are_not_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", a=np.zeros(3))
    with pytest.raises(BundleError, match=r"some.npz: expected musicnn's wheel.*without 'timbral"):
        read_checkpoint(tmp_path / "some.npz")
    with pytest.raises(BundleError, match=r"musicnn's wheel.*No such file"):
        read_checkpoint(tmp_path / ".index")
    (tmp_path / ".index").write_bytes(b"hello")
    (tmp_path / ".data-00000-of-00001").write_bytes(b"")
    with pytest.raises(BundleError, match="no footer"):
        read_checkpoint(tmp_path / ".index")


def test_dead_filters_change_nothing() -> None:
    net = net_with_history("pons-musicnn", 5)
    generator = torch.Generator().manual_seed(1)
    for part in net.front:  # type: ignore[union-attr]
        dead = torch.rand(len(part.conv.bias), generator=generator) < 0.7
        with torch.no_grad():
            part.conv.weight[dead] *= 1e-9
            part.conv.bias.normal_(0, 1, generator=generator)
    x = torch.rand(2, 187, 96, generator=generator)
    small = net.without_dead_filters()  # type: ignore[operator]
    with torch.inference_mode():
        assert small.embed(x).shape[2] < 250
        torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-6)

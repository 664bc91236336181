"""The weights of the package musicnn under the names of `nets.pons`.

The package (musicnn 0.1.0 on PyPI) has them as a checkpoint of TensorFlow 1 within its wheel, in
the folder `musicnn/MSD_musicnn`. The same arrays in an `.npz` by the names of `ARRAYS` work as
well. Neither TensorFlow nor the package is needed, and no code of theirs is run.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch

from streamtag.errors import BundleError
from streamtag.train.importing.tensorflow import read_variables

FOLDER = "musicnn/MSD_musicnn/"
"""The checkpoint's folder within the wheel; its files have no other names than their endings."""
INDEX, DATA = ".index", ".data-00000-of-00001"
BLOCKS = {
    "timbral_38": "front.0",
    "timbral_67": "front.1",
    "temporal_128": "front.2",
    "temporal_64": "front.3",
    "temporal_32": "front.4",
    "mid_1": "middle.0",
    "mid_2": "middle.1",
    "mid_3": "middle.2",
}
"""Convolutions of an `.npz` in the order of the checkpoint, with their names in our net."""
NORMS = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def is_musicnn(path: Path) -> bool:
    """Whether a file is a wheel with the net, an index of its checkpoint, or an `.npz`."""
    if path.name.endswith(INDEX):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return FOLDER + INDEX in names or any(name.endswith(".npy") for name in names)


def read_musicnn(path: Path) -> dict[str, torch.Tensor]:
    """The weights by the names of `nets.pons.PonsMusicnn`.

    Raises:
        BundleError: the file is damaged, or an array is missing or has another number of axes.
    """
    expected = (
        f"{path}: expected musicnn's wheel, the index of its checkpoint, or its arrays (.npz)"
    )
    try:
        return _state(_arrays(path))
    except KeyError as error:
        raise BundleError(f"{expected}, got one without {error.args[0]!r}") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{expected}, got: {error}") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays by the names that an `.npz` has."""
    if path.name.endswith(INDEX):
        data = path.with_name(path.name.removesuffix(INDEX) + DATA)
        return _renamed(read_variables(path.read_bytes(), data.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        if FOLDER + INDEX in archive.namelist():
            files = (archive.read(FOLDER + ending) for ending in (INDEX, DATA))
            return _renamed(read_variables(*files))
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _renamed(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables of a checkpoint, which numbers its layers, by the names of an `.npz`."""
    found: dict[str, np.ndarray] = {}
    for i, block in enumerate(BLOCKS):
        layer = f"conv2d_{i}" if i else "conv2d"
        found |= {f"{block}.{part}": variables[f"{layer}/{part}"] for part in ("kernel", "bias")}
        found |= _norm(variables, i + 1, f"{block}.bn_")
    found |= _norm(variables, 0, "input_bn.") | _norm(variables, 9, "pool_bn.")
    for layer, name in (("dense", "dense_1"), ("dense_1", "dense_2")):
        found |= {f"{name}.{part}": variables[f"{layer}/{part}"] for part in ("kernel", "bias")}
    return found | _norm(variables, 10, "dense_1.bn_")


def _norm(variables: dict[str, np.ndarray], number: int, name: str) -> dict[str, np.ndarray]:
    layer = f"batch_normalization_{number}" if number else "batch_normalization"
    parts = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
    return {name + short: variables[f"{layer}/{part}"] for short, part in parts.items()}


def _state(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Keras' axes (…, in, out) become PyTorch's (out, in, …); time is the last one."""
    found = {}
    for block, ours in BLOCKS.items():
        kernel = arrays[f"{block}.kernel"].transpose(3, 2, 1, 0)  # out, in, bands, time
        if ours.startswith("middle"):
            kernel = arrays[f"{block}.kernel"].squeeze(2).transpose(2, 1, 0)
        found[f"{ours}.conv.weight"] = kernel
        found[f"{ours}.conv.bias"] = arrays[f"{block}.bias"]
        found |= {f"{ours}.bn.{o}": arrays[f"{block}.bn_{part}"] for part, o in NORMS.items()}
    for name in ("input_bn", "pool_bn"):
        found |= {f"{name}.{o}": arrays[f"{name}.{part}"] for part, o in NORMS.items()}
    found |= {f"dense_1_bn.{o}": arrays[f"dense_1.bn_{part}"] for part, o in NORMS.items()}
    for name in ("dense_1", "dense_2"):
        found[f"{name}.weight"] = arrays[f"{name}.kernel"].transpose(1, 0)
        found[f"{name}.bias"] = arrays[f"{name}.bias"]
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in found.items()}

"""Checkpoints of others: read safely, checked and recognised."""

import hashlib
import pickle
import warnings
from pathlib import Path

import numpy as np
import torch

from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import frames_of
from streamtag.errors import BundleError
from streamtag.model.bundle import golden_signal
from streamtag.train.importing.musicnn import is_musicnn, read_musicnn
from streamtag.train.importing.published import KINDS, CheckpointKind
from streamtag.train.nets import NETS

State = dict[str, torch.Tensor]

WINDOW, FILTER_BANK = "spec.spectrogram.window", "spec.mel_scale.fb"
"""Buffers of the checkpoint's own front end, which the net does not need."""
SAME_MEL_DB = 0.05
"""Largest difference in dB between the checkpoint's front end and ours."""


def read_checkpoint(path: Path) -> State:
    """The weights of a file by name. No code in the file is run.

    Args:
        path: written by `torch.save`, or what `musicnn.is_musicnn` recognises.

    Raises:
        BundleError: the file is missing, damaged, holds anything but tensors, or numbers that are
            not finite.
    """
    if is_musicnn(path):
        state = read_musicnn(path)
        for name, value in state.items():
            _check_numbers(path, name, value)
        return state
    expected = f"{path}: expected a checkpoint (names of weights with tensors, by torch.save)"
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BundleError(f"{expected}, got: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:  # its own text advises to load the file unsafely
        raise BundleError(
            f"{expected}, got a file that is damaged or holds other objects, which might run code "
            "when loaded and are not; save the weights alone"
        ) from error
    except Exception as error:  # torch raises whatever its parsers raise
        reason = str(error).partition("\n")[0][:200]
        raise BundleError(f"{expected}, got {type(error).__name__} {reason}".rstrip()) from error
    if not isinstance(state, dict) or not state:
        raise BundleError(f"{expected}, got {type(state).__name__} {str(state)[:60]!r}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BundleError(
                f"{expected}, got {type(value).__name__} under {name!r}; if the weights are in "
                "there, save them alone"
            )
        _check_numbers(path, name, value)
    return dict(state)


def fingerprint(state: State) -> str:
    """SHA-256 of names, types, shapes and values, independent of the file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_kind(path: Path, state: State, kind: CheckpointKind) -> int:
    """Checks that the weights belong to a kind's net; returns the number of tags.

    Raises:
        BundleError: a weight is missing, left over or of another shape; the message tells which
            kind fits.
    """
    if not (faults := _faults(state, kind)):
        return len(state[kind.output])
    fitting = [other.name for other in KINDS.values() if not _faults(state, other)]
    advice = f"this is a checkpoint for {' or '.join(fitting)}" if fitting else "no kind fits it"
    more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
    raise BundleError(
        f"{path}: expected the weights of {kind.name}, got {', '.join(faults[:4])}{more}; {advice}"
    )


def check_front_end(path: Path, state: State, features: FeatureConfig) -> float:
    """Checks that the checkpoint's own filter bank and window equal those of our front end.

    Returns:
        The largest difference in dB on a signal of chirps and noise; 0 if it carries none.

    Raises:
        BundleError: they give other mels than our front end.
    """
    if WINDOW not in state or FILTER_BANK not in state:
        return 0.0
    window, bank = state[WINDOW].double().numpy(), state[FILTER_BANK].double().numpy()
    if window.shape != (features.n_fft,) or bank.shape != (features.n_fft // 2 + 1, features.width):
        raise BundleError(
            f"{path}: expected a front end of {features.n_fft} samples and {features.width} bands, "
            f"got a window of shape {window.shape} and a filter bank of shape {bank.shape}"
        )
    samples = golden_signal(features.sample_rate, 2.3)
    expected = _mel_db(samples, window, bank, features)
    ours = frames_of(samples, features)
    loud = expected > expected.max() - 80
    difference = float(np.abs(ours - expected)[loud].max())
    if difference > SAME_MEL_DB:
        raise BundleError(
            f"{path}: its own front end ({WINDOW}, {FILTER_BANK}) differs from ours by "
            f"{difference:.2g} dB, expected at most {SAME_MEL_DB}: it was trained on other mels"
        )
    return difference


def without_front_end(state: State) -> State:
    """The weights of the net itself."""
    return {name: value for name, value in state.items() if not name.startswith("spec.")}


def _check_numbers(path: Path, name: str, value: torch.Tensor) -> None:
    if value.layout is not torch.strided or value.is_quantized:
        raise BundleError(f"{path}: {name}: expected a dense tensor, got {value.layout}")
    if bad := int((~torch.isfinite(value)).sum()):
        raise BundleError(
            f"{path}: {name}: expected finite numbers, got {bad} of {value.numel()} that are NaN "
            "or infinite; fetch or train it again"
        )
    if name.endswith("running_var") and bool((value < 0).any()):
        raise BundleError(f"{path}: {name}: expected variances, got {float(value.min()):g}")


def _faults(state: State, kind: CheckpointKind) -> list[str]:
    """The differences between the weights and a kind's net."""
    output = state.get(kind.output)
    n_tags = output.shape[0] if output is not None and output.ndim == 2 else 1
    with torch.device("meta"):
        wanted = NETS[kind.net](max(n_tags, 1)).state_dict()
    theirs = without_front_end(state)
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    faults = [f"no {name}" for name in wanted if name not in theirs and name not in counters]
    faults += [f"an unknown {name}" for name in theirs if name not in wanted]
    for name in wanted.keys() & theirs.keys():
        if theirs[name].shape != wanted[name].shape:
            got, expected = tuple(theirs[name].shape), tuple(wanted[name].shape)
            faults.append(f"{name} of shape {got} instead of {expected}")
        elif theirs[name].is_floating_point() != wanted[name].is_floating_point():
            faults.append(f"{name} of type {theirs[name].dtype}")
    return faults


def _mel_db(
    samples: np.ndarray, window: np.ndarray, bank: np.ndarray, features: FeatureConfig
) -> np.ndarray:
    """10·log10 of mel power, (n_frames, width) float64, centred with reflection: in NumPy."""
    padded = np.pad(samples.astype(np.float64), features.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, features.n_fft)[:: features.hop]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    mel_db: np.ndarray = 10 * np.log10(np.maximum(power @ bank, features.log_floor))
    return mel_db

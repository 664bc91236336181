"""What several test modules need: where shared data is, and small audio files."""

import wave
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real data beside the clone; not everywhere."""


def pytest_report_header() -> str:
    import torch

    from streamtag import _core

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__}, device {device}, front end {_core.isa()}"


@pytest.fixture(scope="session")
def decoder_cases() -> Path:
    if not (folder := SHARED / "data" / "decoder-cases").is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """(n,) float32 sine."""
    at = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * at)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Writes (n,) or (n, channels) float32 as 16 bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return path

"""What several test modules need: where shared data is, and a small bundle."""

from pathlib import Path

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

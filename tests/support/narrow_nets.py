"""Narrow versions of the largest nets: the same layers with fewer channels.

`test_nets` holds their published widths.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from streamtag.train.nets import cpjku, vqvae, vqvae_classifiers

WIDTHS: tuple[tuple[ModuleType, dict[str, Any]], ...] = (
    (vqvae, {"CHANNELS": 32, "CODES": 64}),
    (
        vqvae_classifiers,
        {
            "CHANNELS": 32,
            "HIDDEN": 32,
            "BLOCKS": (16, 32, 64, 64, 64),
            "POOLS": ((2, 2), (2, 2), (2, 2), (1, 4), (2, 3)),
            "SMALLEST_STEPS": 16,
            "SMALLEST_FEATURES": 96,
        },
    ),
    (
        cpjku,
        {
            "WIDTHS": (16,) * 4 + (32,) * 4 + (64,) * 4,
            "RESNET34_STAGES": ((64, 3, 1), (64, 4, 2), (64, 6, 2), (64, 3, 2)),
        },
    ),
)
"""By the module that defines or uses them."""


@contextmanager
def narrow_nets() -> Iterator[None]:
    """Nets that are made meanwhile are narrow."""
    with pytest.MonkeyPatch.context() as patch:
        for module, widths in WIDTHS:
            for name, value in widths.items():
                patch.setattr(module, name, value)
        yield

"""Paths of the files that tests read."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
"""The folder of modules and programs that several tests use."""
ROOT = SUPPORT.parents[1]
"""The root of the checkout."""
SHARED = ROOT.parent / "shared"
"""Real data beside the checkout; not on every machine."""

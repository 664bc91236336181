"""Where things are that tests read."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
"""Modules and programs that several tests use."""
ROOT = SUPPORT.parents[1]
"""The checkout."""
SHARED = ROOT.parent / "shared"
"""Real data beside the checkout; not on every machine."""

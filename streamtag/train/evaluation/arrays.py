"""Matrices of truth, scores and decisions: read from files, refused where they cannot be judged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamtag.errors import RecipeError


def read_array(path: Path) -> np.ndarray:
    """A matrix from a .npy file.

    Raises:
        RecipeError: no such file, another format, or another number of dimensions.
    """
    expected = f"{path}: expected a .npy file with a matrix (rows, tags)"
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise RecipeError(f"{expected}, got: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise RecipeError(
            f"{expected} of numbers, got: {error}; save it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise RecipeError(f"{expected}, got an archive of several; save it with numpy.save")
    if array.ndim != 2 or 0 in array.shape:
        hint = "; a single tag is a matrix with one column" if array.ndim == 1 else ""
        raise RecipeError(f"{expected}, got shape {array.shape}{hint}")
    return array


def check(
    tags: Sequence[str], truth: np.ndarray, scores: np.ndarray, truth_name: str, scores_name: str
) -> None:
    """Refuses what cannot be judged.

    Args:
        tags: names of the columns.
        truth: what is right.
        scores: what was said.
        truth_name: for the message.
        scores_name: for the message.

    Raises:
        RecipeError: shapes, types or values.
    """
    if truth.ndim != 2 or len(truth) == 0 or truth.shape[1] != len(tags):
        raise RecipeError(
            f"{truth_name}: expected shape (rows, {len(tags)}), one column per tag, "
            f"got {truth.shape}"
        )
    _fits(scores, truth, scores_name)
    for array, name in ((truth, truth_name), (scores, scores_name)):
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise RecipeError(
                f"{name}: expected booleans, integers or floats of at most 64 bits, "
                f"got {array.dtype}"
            )
    bad = np.argwhere((truth < 0) | (truth > 1))  # NaN is neither
    if len(bad):
        row, column = bad[0].tolist()
        raise RecipeError(
            f"{truth_name}: tag {tags[column]!r}, row {row}: expected 0, 1, something between or "
            f"NaN, got {truth[row, column]}; are these the predictions?"
        )
    bad = np.argwhere(~np.isfinite(scores))
    if len(bad):
        row, column = bad[0].tolist()
        raise RecipeError(
            f"{scores_name}: tag {tags[column]!r}, row {row}: expected a finite number, "
            f"got {scores[row, column]} ({len(bad)} such in all)"
        )


def _fits(array: np.ndarray, truth: np.ndarray, name: str) -> None:
    if array.shape != truth.shape:
        hint = "; turn it round" if array.shape == truth.shape[::-1] else ""
        raise RecipeError(f"{name}: expected shape {truth.shape}, got {array.shape}{hint}")


def booleans(array: np.ndarray, truth: np.ndarray, name: str) -> np.ndarray:
    """Decisions, also if they are numbers 0 and 1."""
    _fits(array, truth, name)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise RecipeError(f"{name}: expected decisions, 0 or 1, got other values ({array.dtype})")
    out: np.ndarray = array.astype(bool)
    return out


def read_tags(path: Path, truth_path: Path, truth: np.ndarray) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected a text file with one tag per line: {error}") from error
    tags = [line.strip() for line in lines if line.strip()]
    if len(tags) != truth.shape[1] or len(set(tags)) != len(tags):
        raise RecipeError(
            f"{path}: expected {truth.shape[1]} different tags, one per column of {truth_path}, "
            f"got {len(tags)}, {len(set(tags))} of them different"
        )
    return tags

"""The arrays behind the scores of a test set, as `streamtag score` reads them.

They have the names and the types of MediaEval's submissions: a row per recording, a column per tag.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRUTH, PREDICTIONS, DECISIONS = "groundtruth.npy", "predictions.npy", "decisions.npy"
TAGS, RECORDINGS = "tags.txt", "recordings.txt"
TEST = "test"
"""Title of the test set whose arrays are in the run folder itself."""


@dataclass(frozen=True, slots=True)
class ScoreArrays:
    """Truth, scores and decisions of a test set."""

    tags: tuple[str, ...]
    """Names of the columns."""
    names: tuple[str, ...]
    """Names of the rows, if the recordings have some."""
    truth: np.ndarray
    """(n, n_tags) in [0, 1], or NaN where unknown."""
    scores: np.ndarray
    """(n, n_tags) float64, before calibration: temperatures per tag would change micro areas."""
    decisions: np.ndarray | None
    """(n, n_tags) bool, with thresholds from validation data; None if there is none."""

    def write(self, folder: Path, title: str = TEST) -> Path:
        """Writes the files and removes those of an earlier model that are not written again.

        Args:
            folder: the run folder.
            title: of the test set; others than `test` get a folder of that name in the run folder.

        Returns:
            The folder of the files.
        """
        place = folder if title == TEST else folder / re.sub(r"\W+", "-", title)
        place.mkdir(parents=True, exist_ok=True)
        arrays = {TRUTH: self.truth, PREDICTIONS: self.scores, DECISIONS: self.decisions}
        for name, array in arrays.items():
            (place / name).unlink(missing_ok=True)
            if array is not None:
                np.save(place / name, array)
        for name, lines in ((TAGS, self.tags), (RECORDINGS, self.names)):
            (place / name).unlink(missing_ok=True)
            if lines:
                (place / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return place

"""All figures of a set of scores: areas, precision, recall and F, macro, micro and per tag."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtag.errors import RecipeError
from streamtag.train.evaluation.metrics import Rates, areas, pooled, rates
from streamtag.train.evaluation.thresholds import decide, rule_thresholds
from streamtag.train.recipes.recipe import RULES, Thresholds

RULE_NAMES = {
    "f_beta": "largest F",
    "roc_elbow": "elbow of the ROC curve",
    "equal_error": "equal error rates",
    "half": "0.5 for every tag",
}
"""The rules in words."""
AREAS = ("roc_auc", "pr_auc")
RATES = ("precision", "recall", "f", "false_positive_rate")


def report(
    tags: Sequence[str],
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    decisions: np.ndarray | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    rule: Thresholds | None = None,
) -> dict[str, Any]:
    """Every figure that the papers report, unrounded, for JSON; None where undefined.

    Decisions are the given ones. Without them, scores strictly above thresholds count, which a rule
    finds on validation data. The same rule on the test labels themselves is reported as `oracle`:
    it is impossible live, but some published figures are of this kind.

    Args:
        tags: names of the columns.
        truth: (n, n_tags) bool, or in [0, 1], or NaN where unknown.
        scores: (n, n_tags), larger is likelier.
        decisions: (n, n_tags) bool.
        validation: truth and scores of other recordings, for the thresholds.
        rule: one of `RULES`, and its beta.

    Returns:
        `macro` and `micro` areas, `decisions` (None if there are none), `oracle`, all `rules` with
        both, and `tags`.

    Raises:
        RecipeError: arrays do not fit together, or scores are not numbers.
    """
    wanted = rule or Thresholds()
    check_arrays(tags, truth, scores, "truth", "scores")
    if decisions is not None:
        decisions = booleans(decisions, truth, "decisions")
    if validation is not None:
        check_arrays(tags, *validation, "validation truth", "validation scores")
    rules = {name: _rule(tags, truth, scores, validation, name, wanted.beta) for name in RULES}
    oracle, shown = rules[wanted.rule]["oracle"], rules[wanted.rule]["validation"]
    if decisions is not None:
        shown = {"by": "given decisions"} | decision_metrics(tags, truth, decisions)
    rows, micro = _areas_per_tag(tags, truth, scores), areas(pooled(truth), pooled(scores))
    return {
        "rows": len(truth),
        "columns": len(tags),
        "macro": {key: _mean([row[key] for row in rows.values()]) for key in AREAS}
        | {"prior": _mean([r["prior"] for r in rows.values() if r["pr_auc"] is not None])},
        "micro": {key: _plain(getattr(micro, key)[0]) for key in (*AREAS, "prior")},
        "undefined": [tag for tag, row in rows.items() if None in (row["roc_auc"], row["pr_auc"])],
        "rule": wanted.rule,
        "decisions": _headline(shown),
        "oracle": _headline(oracle),
        "rules": {
            name: {side: _headline(body) for side, body in both.items()}
            for name, both in rules.items()
        },
        "tags": {tag: row | (shown or oracle)["tags"][tag] for tag, row in rows.items()},
    }


def decision_metrics(
    tags: Sequence[str], truth: np.ndarray, decisions: np.ndarray
) -> dict[str, Any]:
    """Metrics of decisions: `macro`, `micro`, tags per row, and `tags`; F is F1.

    Macro figures are means over all tags, 0 where undefined, as in scikit-learn.

    Args:
        tags: names of the columns.
        truth: (n, n_tags).
        decisions: (n, n_tags) bool.
    """
    each = rates(truth, decisions)
    return {
        "macro": {name: float(getattr(each, name).mean()) for name in RATES},
        "micro": _row(rates(pooled(truth), pooled(decisions)), 0),
        "tags_per_row": float(decisions.sum() / len(truth)),
        "tags": {tag: _row(each, i) for i, tag in enumerate(tags)},
    }


def summary(table: dict[str, Any], digits: int = 4) -> dict[str, float]:
    """The headline figures of a report under the keys of a recipe's `published`."""
    flat = {"roc_auc": table["macro"]["roc_auc"], "pr_auc": table["macro"]["pr_auc"]}
    flat |= {f"{name}_micro": table["micro"][name] for name in ("roc_auc", "pr_auc")}
    for prefix, body in (("", table["decisions"]), ("oracle_", table["oracle"])):
        if body is not None:
            for mean in ("macro", "micro"):
                for name in RATES[:3]:
                    flat[f"{prefix}{name}_{mean}"] = body[mean][name]
    return {name: round(value, digits) for name, value in flat.items() if value is not None}


def score_files(
    truth: Path,
    predictions: Path,
    decisions: Path | None = None,
    tags: Path | None = None,
    validation_truth: Path | None = None,
    validation_predictions: Path | None = None,
    rule: str = "f_beta",
) -> dict[str, Any]:
    """`report` for arrays in .npy files, (n_rows, n_tags) each, and a file with a tag per line.

    Raises:
        RecipeError: a file cannot be read or does not fit the others; the message names it.
    """
    known = next((name for name in RULES if name == rule), None)
    if known is None:
        raise RecipeError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    labels, scores = read_array(truth), read_array(predictions)
    names = read_tags(tags, truth, labels) if tags else [str(i) for i in range(labels.shape[1])]
    check_arrays(names, labels, scores, f"{truth}", f"{predictions}")
    given = None
    if decisions is not None:
        given = booleans(read_array(decisions), labels, f"{decisions}")
    validation = None
    if (validation_truth is None) != (validation_predictions is None):
        missing = "truth" if validation_truth is None else "predictions"
        raise RecipeError(
            f"validation {missing}: expected together with the other validation file, got none; "
            "thresholds need both"
        )
    if validation_truth is not None and validation_predictions is not None:
        validation = read_array(validation_truth), read_array(validation_predictions)
        check_arrays(names, *validation, f"{validation_truth}", f"{validation_predictions}")
    return report(
        names, labels, scores, decisions=given, validation=validation, rule=Thresholds(rule=known)
    )


def table(body: dict[str, Any]) -> RenderableType:
    """A report as tables."""
    head = Text(f"{body['rows']} rows, {body['columns']} tags", "bold")
    if body["undefined"]:
        head.append(f"; without an area, left out of the means: {', '.join(body['undefined'])}")
    grid = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
    for name in ("", "macro", "micro"):
        grid.add_column(name, justify="right" if name else "left")
    for key, name in (("roc_auc", "ROC-AUC"), ("pr_auc", "PR-AUC"), ("prior", "  by chance")):
        grid.add_row(name, *(_number(body[mean][key]) for mean in ("macro", "micro")))
    for part in (body["decisions"], body["oracle"]):
        if part is not None:
            grid.add_section()
            grid.add_row(Text(part["by"], "bold"), "", "")
            for key in ("precision", "recall", "f"):
                name = "F" if key == "f" else key
                grid.add_row(f"  {name}", *(_number(part[m][key]) for m in ("macro", "micro")))
            grid.add_row("  tags per row", f"{part['tags_per_row']:.2f}", "")
    return Group(head, grid, Text(), _tags_table(body))


def _tags_table(body: dict[str, Any]) -> RenderableType:
    """A line per tag; a category that all tags share is left out."""
    rows = body["tags"]
    categories = {"".join(tag.rpartition("---")[:2]) for tag in rows}
    shared = categories.pop() if len(categories) == 1 else ""
    keys = {"roc_auc": "ROC", "pr_auc": "PR", "prior": "chance", "positives": "true"}
    keys |= {"precision": "prec", "recall": "recall", "f": "F"}
    if any("threshold" in row for row in rows.values()):
        keys["threshold"] = "above"
    grid = Table(box=None, padding=(0, 1), header_style="dim")
    grid.add_column("tag", no_wrap=True)
    for name in keys.values():
        grid.add_column(name, justify="right", no_wrap=True)
    for tag, row in rows.items():
        grid.add_row(Text(tag.removeprefix(shared)), *(_number(row[key], 4) for key in keys))
    by = (body["decisions"] or body["oracle"])["by"]
    return Group(grid, Text(f" precision, recall and F: {by}", "dim"))


def _rule(
    tags: Sequence[str],
    truth: np.ndarray,
    scores: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
    name: str,
    beta: float,
) -> dict[str, Any]:
    """One rule's decisions with thresholds from validation data (or None) and as an oracle."""
    out: dict[str, Any] = {"validation": None}
    sources = {"oracle": (truth, scores)}
    if validation is not None:
        sources = {"validation": validation} | sources
    for side, source in sources.items():
        thresholds = rule_thresholds(*source, rule=name, beta=beta)
        made = decision_metrics(tags, truth, decide(scores, thresholds))
        for tag, threshold in zip(tags, thresholds.tolist(), strict=True):
            made["tags"][tag]["threshold"] = _plain(threshold)
        where = "on validation data" if side == "validation" else "oracle, on these very labels"
        out[side] = {"by": f"{RULE_NAMES[name]}, {where}"} | made
        # Papers that quote a point of the curve include the row of the threshold itself.
        point = rates(truth, scores.astype(np.float64) >= thresholds)
        out[side]["point"] = {
            "recall": float(point.recall.mean()),
            "false_positive_rate": float(point.false_positive_rate.mean()),
        }
    return out


def _areas_per_tag(
    tags: Sequence[str], truth: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, Any]]:
    found = areas(truth, scores)
    return {
        tag: {key: _plain(getattr(found, key)[i]) for key in (*AREAS, "prior")}
        | {"positives": int(found.positives[i]), "n": int(found.known[i])}
        for i, tag in enumerate(tags)
    }


def _headline(body: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if body is None else {k: v for k, v in body.items() if k != "tags"}


def _row(each: Rates, i: int) -> dict[str, float]:
    return {name: float(getattr(each, name)[i]) for name in RATES}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean over the values that are not None."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _number(value: float | None, digits: int = 6) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def read_array(path: Path) -> np.ndarray:
    """A matrix from a .npy file.

    Raises:
        RecipeError: the file is missing, or has another format or number of dimensions.
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


def check_arrays(
    tags: Sequence[str], truth: np.ndarray, scores: np.ndarray, truth_name: str, scores_name: str
) -> None:
    """Refuses arrays that cannot be scored.

    Args:
        tags: names of the columns.
        truth: the labels.
        scores: the scores.
        truth_name: for the message.
        scores_name: for the message.

    Raises:
        RecipeError: shapes, types or values are wrong.
    """
    if truth.ndim != 2 or len(truth) == 0 or truth.shape[1] != len(tags):
        raise RecipeError(
            f"{truth_name}: expected shape (rows, {len(tags)}), one column per tag, "
            f"got {truth.shape}"
        )
    _check_shape(scores, truth, scores_name)
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


def _check_shape(array: np.ndarray, truth: np.ndarray, name: str) -> None:
    if array.shape != truth.shape:
        hint = "; turn it round" if array.shape == truth.shape[::-1] else ""
        raise RecipeError(f"{name}: expected shape {truth.shape}, got {array.shape}{hint}")


def booleans(array: np.ndarray, truth: np.ndarray, name: str) -> np.ndarray:
    """Decisions as booleans; numbers 0 and 1 are accepted."""
    _check_shape(array, truth, name)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise RecipeError(f"{name}: expected decisions, 0 or 1, got other values ({array.dtype})")
    out: np.ndarray = array.astype(bool)
    return out


def read_tags(path: Path, truth_path: Path, truth: np.ndarray) -> list[str]:
    """The tags in a text file, one per line and per column of the truth.

    Raises: RecipeError: the file cannot be read, or the number of tags is wrong."""
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

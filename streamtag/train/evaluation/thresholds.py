"""Temperatures and thresholds, chosen on validation data only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from streamtag.model.card import Settling
from streamtag.train.evaluation.metrics import Areas, Ranking, areas, ranking, rates
from streamtag.train.recipes.recipe import Thresholds

TEMPERATURES = np.geomspace(0.25, 4.0, 65)
"""The temperatures that are tried; the middle one is 1."""
LOWEST, HIGHEST = 0.1, 0.95
"""Thresholds stay within these limits. Beyond them a small drift would keep a tag on or off for
good."""
HIGHEST_SETTLED = 0.995
"""The same for the on threshold of a tag that has settled: the next change lowers it."""
RARE = 0.25
"""The lower limit of a rare tag is this share of its prior, because its probabilities are small."""
SOUND_KINDS = ("speech", "music", "silence")
"""Tags that name the kind of sound and not a property of the music."""
KIND_OFF_RATIO = 0.6
"""The off threshold of such a tag, relative to its on threshold."""
DIGITS = 4
"""Significant digits of a threshold in a card."""


@dataclass(frozen=True, slots=True)
class DecisionThresholds:
    """Thresholds per tag."""

    on: tuple[float, ...]
    off: tuple[float, ...]
    f1: tuple[float, ...]
    """F1 in validation at `on`."""
    off_by_default: tuple[str, ...]
    """Tags that are hardly better than chance."""
    settling: Settling | None
    """Wider thresholds of tags that have settled."""


def temperatures(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Per tag the temperature of the most likely probabilities, (n_tags,) float32.

    Guo et al., "On calibration of modern neural networks", 2017, section 4.2, per tag.

    Args:
        targets: (n, n_tags) in [0, 1] or NaN.
        logits: (n, n_tags).
    """
    best = np.ones(targets.shape[1], np.float32)
    for i in range(targets.shape[1]):
        sure = ~np.isnan(targets[:, i])
        if not sure.any():
            continue
        y, z = targets[sure, i].astype(np.float64), logits[sure, i].astype(np.float64)
        losses = [cross_entropy(y, z / t) for t in TEMPERATURES]
        best[i] = TEMPERATURES[int(np.argmin(losses))]
    return best


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    """Mean binary cross-entropy of (n,) logits, in nats."""
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def decide(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(n, n_tags) bool: which scores are strictly greater than their tag's threshold.

    The comparison is strict, as in the published systems: the row that a threshold comes from is
    off.

    Args:
        scores: (n, n_tags).
        thresholds: (n_tags,), as of `rule_thresholds`.
    """
    out: np.ndarray = scores.astype(np.float64) > thresholds
    return out


def rule_thresholds(
    truth: np.ndarray, scores: np.ndarray, rule: str = "f_beta", beta: float = 1.0
) -> np.ndarray:
    """The threshold of each tag by a rule, (n_tags,) float64.

    `half` is 0.5, whatever the data. The other rules use the curve that has a point at each
    distinct score:

    * `f_beta`: the largest F; of several, the lowest score (the first one of scikit-learn's
      precision-recall curve), as MediaEval 2019's scripts did;
    * `roc_elbow`: the ROC curve's largest distance from the chord between its ends, on either
      side; of several, the lowest score (github.com/dbis-uibk/MediaEval2019);
    * `equal_error`: the smallest |TPR - (1 - FPR)|; of several, the highest score
      (github.com/urzino/MusicTagger).

    Args:
        truth: (n, n_tags) bool, or in [0, 1], or NaN.
        scores: (n, n_tags), no NaN.
        rule: one of `RULES`.
        beta: of `f_beta`: recall counts so many times as much as precision (van Rijsbergen 1979).

    Returns:
        Infinity for a tag without a positive, and for the second and third without a negative.
    """
    if rule == "half":
        return np.full(truth.shape[1], 0.5)
    ranked = ranking(truth, scores)
    objective = {"f_beta": _f, "roc_elbow": _elbow, "equal_error": _balance}[rule]
    values = np.where(ranked.ends, objective(ranked, beta), -np.inf)
    if rule == "equal_error":
        best = np.argmax(values, axis=0)
    else:
        best = len(values) - 1 - np.argmax(values[::-1], axis=0)
    thresholds = np.take_along_axis(ranked.scores, best[None], axis=0)[0]
    undefined = ranked.positives == 0
    if rule != "f_beta":
        undefined |= ranked.positives == ranked.known
    out: np.ndarray = np.where(undefined, np.inf, thresholds)
    return out


def choose_thresholds(
    tags: Sequence[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    rules: Thresholds,
    categories: Mapping[str, str] = MappingProxyType({}),
) -> DecisionThresholds:
    """On thresholds by the recipe's rule, but high enough for sounds that have none of the tags.

    The engine switches on at a threshold, the rules decide above it. So the next larger number of
    `DIGITS` digits is used. Off thresholds have a fixed ratio to them.

    `SOUND_KINDS` differ in two ways. Precision never counts more than recall, because what is
    speech is certain and should not be missed. And they switch off at `KIND_OFF_RATIO`: a lower one
    would hold speech, whose probability is low in music, but not nothing; at a higher one it comes
    and goes in songs.
    They never settle, because somebody may speak at any moment.

    Args:
        tags: names of the columns.
        targets: (n, n_tags) in [0, 1] or NaN.
        probabilities: (n, n_tags).
        rules: the settings of the recipe.
        categories: of the tags, by name, for `settled_odds_of`.
    """
    found = areas(targets, probabilities)
    best = rule_thresholds(targets, probabilities, rules.rule, rules.beta)
    kinds = np.isin(tags, SOUND_KINDS)
    even = rule_thresholds(targets, probabilities, rules.rule, max(1, rules.beta))
    best = np.where(kinds, even, best)
    if rules.smallest_recall:
        best = np.fmin(best, recall_thresholds(targets, probabilities, rules.smallest_recall))
    if rules.stray_share < 1:
        stray = stray_thresholds(tags, targets, probabilities, rules.stray_share)
        best = np.maximum(best, stray)
    lowest = np.fmin(LOWEST, RARE * found.prior)  # LOWEST where the prior is unknown
    on = [_on_threshold(*pair) for pair in zip(best.tolist(), lowest.tolist(), strict=True)]
    ratio = np.where(kinds, KIND_OFF_RATIO, rules.off_ratio).tolist()
    off = [_rounded(high * part) for high, part in zip(on, ratio, strict=True)]
    odds = [rules.settled_odds_of.get(categories.get(t, ""), rules.settled_odds) for t in tags]
    f = np.nan_to_num(rates(targets, probabilities >= np.array(on)).f).tolist()
    return DecisionThresholds(
        on=tuple(on),
        off=tuple(off),
        f1=tuple(f),
        off_by_default=tuple(
            tag
            for i, tag in enumerate(tags)
            if rules.rule != "half"
            and not (
                _has_evidence(found, i, rules)
                and f[i] >= rules.smallest_f1
                and on[i] >= rules.smallest_threshold
            )
        ),
        settling=_settling(on, off, kinds, odds, rules) if rules.settling_change else None,
    )


def _settling(
    on: Sequence[float],
    off: Sequence[float],
    kinds: np.ndarray,
    odds: Sequence[float],
    rules: Thresholds,
) -> Settling:
    """Thresholds of tags that have settled, with the odds at `on` times `odds`; those of `kinds`,
    (n_tags,) bool, do not change."""
    high, low = np.array(on), np.array(off)
    wanted = np.array(odds) * high / (1 - high)
    wider = np.clip(wanted / (1 + wanted), high, HIGHEST_SETTLED)
    later_on = np.where(kinds, high, wider)
    later_off = np.where(kinds, low, np.minimum(low, high * rules.settled_off_ratio))
    return Settling(
        change=rules.settling_change,
        seconds=rules.settling_seconds,
        on_thresholds=tuple(map(_rounded, later_on.tolist())),
        off_thresholds=tuple(map(_rounded, later_off.tolist())),
        again_seconds=rules.again_seconds,
        start_seconds=rules.start_seconds,
    )


def recall_thresholds(targets: np.ndarray, probabilities: np.ndarray, share: float) -> np.ndarray:
    """Per tag, the score that a share of the rows that have it reach, (n_tags,); NaN without any.

    With few of them and a small beta, the largest F may be that of a single row.
    """
    rows = [probabilities[targets[:, i] >= 0.5, i] for i in range(targets.shape[1])]
    return np.array([np.quantile(own, 1 - share) if len(own) else np.nan for own in rows])


def stray_thresholds(
    tags: Sequence[str], targets: np.ndarray, probabilities: np.ndarray, share: float
) -> np.ndarray:
    """Per tag, the score that at most a share of the rows without any tag reach, (n_tags,).

    Rows in which only `SOUND_KINDS` are on count too, because speech has no genre. Those tags
    themselves have no such limit.
    """
    content = [i for i, tag in enumerate(tags) if tag not in SOUND_KINDS]
    nothing = (targets[:, content] == 0).all(axis=1)
    out = np.zeros(len(tags))
    if nothing.any():
        out[content] = np.quantile(probabilities[nothing][:, content], 1 - share, axis=0)
    return out


def _has_evidence(found: Areas, i: int, rules: Thresholds) -> bool:
    """Whether a tag is as much better than chance as the rules demand.

    Its ROC-AUC must exceed the limit by two standard errors of chance.
    """
    positives, n = int(found.positives[i]), int(found.known[i])
    if positives in (0, n):
        return False
    if found.roc_auc[i] < rules.smallest_roc_auc + 2 * chance_error(positives, n):
        return False
    prior, lift = float(found.prior[i]), rules.smallest_lift
    wanted = min(lift * prior, 1 - (1 - prior) / lift)  # for a tag that is nearly always on
    return bool(found.pr_auc[i] >= max(wanted, prior))


def _on_threshold(threshold: float, lowest: float) -> float:
    """The on threshold for an engine that switches on at equality."""
    if threshold >= HIGHEST:
        return HIGHEST
    return min(max(next_above(threshold), _rounded(lowest)), HIGHEST)


def chance_error(positives: int, n: int) -> float:
    """Standard error of the ROC-AUC of random scores (Mann and Whitney 1947).

    Args:
        positives: more than 0, less than `n`.
        n: rows.
    """
    return math.sqrt((n + 1) / (12 * positives * (n - positives)))


def next_above(threshold: float) -> float:
    """The smallest larger number of `DIGITS` significant digits; 0 below 1e-9."""
    if threshold < 1e-9:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(threshold)) + 1 - DIGITS)
    k = math.floor(threshold / step)
    while _rounded(k * step) <= threshold:
        k += 1
    return _rounded(k * step)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _f(ranked: Ranking, beta: float) -> np.ndarray:
    """F at each row, with the rounding of the published scripts, which decides near ties."""
    precision = ranked.hits / ranked.seen
    recall = ranked.hits / np.maximum(1, ranked.positives)
    over, under = (1 + beta**2) * precision * recall, beta**2 * precision + recall
    out: np.ndarray = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return out


def _elbow(ranked: Ranking, beta: float) -> np.ndarray:
    """|TPR - FPR| at each row times positives and negatives: integers, so ties are exact."""
    positives = ranked.positives
    negatives = ranked.known - positives
    out: np.ndarray = np.abs(ranked.hits * negatives - (ranked.seen - ranked.hits) * positives)
    return out


def _balance(ranked: Ranking, beta: float) -> np.ndarray:
    """-|TPR + FPR - 1| at each row times positives and negatives: integers too."""
    positives = ranked.positives
    negatives = ranked.known - positives
    both = ranked.hits * negatives + (ranked.seen - ranked.hits) * positives
    out: np.ndarray = -np.abs(both - positives * negatives)
    return out

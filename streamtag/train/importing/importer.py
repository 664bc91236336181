"""Import of a published checkpoint as a bundle."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from streamtag.errors import BundleError
from streamtag.model.bundle import checksum
from streamtag.model.card import Card, PastPadding
from streamtag.model.tagger import SMALLEST_WEIGHT, flush_denormal_weights
from streamtag.train.data.vocabulary import (
    OutputVocabulary,
    built_in,
    check_agreement,
    requested_vocabulary,
)
from streamtag.train.exporting.bundle import export
from streamtag.train.importing.checkpoint import (
    check_front_end,
    check_kind,
    fingerprint,
    read_checkpoint,
    without_front_end,
)
from streamtag.train.importing.published import (
    AUDIO,
    KINDS,
    PUBLISHED,
    CheckpointKind,
    Published,
)
from streamtag.train.nets import NETS
from streamtag.train.nets.model import model_of
from streamtag.train.nets.pons import PonsMusicnn

logger = logging.getLogger(__name__)

UNKNOWN_RATE_THRESHOLD = 0.3
"""On threshold of a tag whose frequency is unknown."""
OFF_TO_ON = 0.75
"""Off threshold divided by on threshold."""


def import_checkpoint(kind: str, checkpoint: Path, tags: Path | None, output: Path) -> Card:
    """Turns a published checkpoint into a bundle.

    Args:
        kind: one of `published.KINDS`.
        checkpoint: the file with the weights, as torch.save wrote it.
        tags: a file with a tag per line in the order of the outputs, or the name of a built-in
            vocabulary (`mtat`, `jamendo`, `moodtheme`); None where the checkpoint is recognised.
        output: where the bundle goes.

    Returns:
        The bundle's card.

    Raises:
        BundleError: the kind is unknown, the checkpoint is of another kind, damaged or trained on
            other mels, the tags do not fit, or the output cannot be written.
    """
    if kind not in KINDS:
        raise BundleError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    recipe = KINDS[kind]
    if output.exists() and output.resolve() == checkpoint.resolve():
        raise BundleError(f"{output}: expected another file than the checkpoint, got the same")
    state = read_checkpoint(checkpoint)
    n_tags = check_kind(checkpoint, state, recipe)
    check_front_end(checkpoint, state, recipe.features)
    known = PUBLISHED.get(fingerprint(state))
    vocabulary, how = _vocabulary(recipe, checkpoint, tags, n_tags, known)
    net = NETS[recipe.net](n_tags)
    net.load_state_dict(without_front_end(state), strict=True)
    cleared = flush_denormal_weights(net)
    if isinstance(net, PonsMusicnn):
        net = net.without_dead_filters()
    origin = {
        "kind": kind,
        "checkpoint": checkpoint.name,
        "sha256": checksum(checkpoint),
        "recognised": known is not None,
        "tags": how,
        "weights_set_to_zero": f"{cleared} smaller than {SMALLEST_WEIGHT:g}, which slow a CPU down",
    }
    width = recipe.features.width
    model = model_of(net, n_tags, width)
    model.normalise(*(torch.full((width,), number) for number in recipe.band))
    return export(model, _card(recipe, vocabulary, known, origin, output), output)


def thresholds(rates: Sequence[float], gain: float) -> tuple[float, ...]:
    """On thresholds from the frequencies of tags: sqrt(gain · rate), within [0.02, 0.9].

    They replace thresholds tuned on validation data, which is not available. F1 is largest at half
    the attainable F1 (Lipton et al. 2014), which grows with the frequency of a tag, but more
    slowly. `gain` makes the mean half of the F1 that the papers' scores suggest.
    """
    return tuple(round(min(max(math.sqrt(gain * rate), 0.02), 0.9), 4) for rate in rates)


def _vocabulary(
    kind: CheckpointKind, checkpoint: Path, tags: Path | None, n_tags: int, known: Published | None
) -> tuple[OutputVocabulary, str]:
    """The names of the outputs, and how they were found."""
    if tags is not None:
        vocabulary = requested_vocabulary(tags)
        if len(vocabulary.tags) != n_tags:
            raise BundleError(
                f"{tags}: expected {n_tags} tags, one per output of {checkpoint}, "
                f"got {len(vocabulary.tags)}"
            )
        check_agreement(vocabulary, tags, known.vocabulary if known else "", str(checkpoint))
        return vocabulary, f"from --tags {tags.name}"
    if known:
        return built_in(known.vocabulary), "of the published checkpoint, recognised by its weights"
    fitting = [name for name in kind.vocabularies if len(built_in(name).tags) == n_tags]
    if fitting and len(kind.vocabularies) == 1:
        logger.warning("%s: not the published weights; the published tags are assumed", checkpoint)
        return built_in(fitting[0]), "of the published checkpoint, assumed to be the same"
    choices = [f"--tags {name}" for name in fitting] + ["--tags FILE"]
    raise BundleError(
        f"{checkpoint}: expected the names of its {n_tags} outputs, got weights that streamtag "
        f"does not recognise and that contain no names: use "
        f"{' or '.join(choices)} (a tag per line in the order of the outputs)"
    )


def _card(
    kind: CheckpointKind,
    vocabulary: OutputVocabulary,
    known: Published | None,
    origin: dict[str, Any],
    output: Path,
) -> Card:
    n_tags = len(vocabulary.tags)
    on = vocabulary.on or thresholds(vocabulary.rates, kind.threshold_gain)
    on = on or (UNKNOWN_RATE_THRESHOLD,) * n_tags
    display = dict(zip(vocabulary.tags, vocabulary.display, strict=True))
    data, licence = _provenance(kind, known)
    return Card(
        name=_name(kind, known, output),
        net=f"{kind.net} ({kind.paper})",
        features=kind.features,
        window_frames=kind.window_frames,
        hop_frames=kind.hop_frames,
        first_frames=kind.first_frames,
        padding=PastPadding.WRAP,
        tags=vocabulary.tags,
        on_thresholds=on,
        off_thresholds=tuple(round(OFF_TO_ON * threshold, 4) for threshold in on),
        smoothing_seconds=2.0,
        min_on_seconds=0.0,  # so that a file of one window has events; smoothing is enough
        min_off_seconds=kind.min_off_seconds,
        display={tag: shown for tag, shown in display.items() if shown != tag},
        categories=dict(zip(vocabulary.tags, vocabulary.categories, strict=False)),
        off_by_default=vocabulary.silent,
        scores={"published": known.scores} if known else {},
        data=data,
        licence=licence,
        description=_description(vocabulary),
        extra={"imported": origin, "thresholds": _about_thresholds(kind, vocabulary)}
        | ({"measured": _measured(known)} if known else {}),
    )


def _name(kind: CheckpointKind, known: Published | None, output: Path) -> str:
    if known is None:
        return output.stem
    return kind.name if len(kind.vocabularies) == 1 else f"{kind.name}-{known.vocabulary}"


def _provenance(kind: CheckpointKind, known: Published | None) -> tuple[str, str]:
    """Training data and licences."""
    if known is None:
        return (
            "unknown: not one of the published checkpoints",
            f"unknown: not one of the published checkpoints (those are {kind.weights_licence}); "
            "ask whoever trained it, for the weights and for the audio",
        )
    data, audio_licence = AUDIO[known.vocabulary]
    return data, (
        f"Weights: {kind.weights_licence}. Training audio: {audio_licence}; "
        "this holds for models distilled from this one as well."
    )


def _description(vocabulary: OutputVocabulary) -> str:
    text = "Imported from a checkpoint that others trained."
    if vocabulary.silent:
        text += (
            f" These tags are scored but make no events by default: {', '.join(vocabulary.silent)}"
        )
        text += _WHY_SILENT[vocabulary.name]
    text += (
        " Until a window is full, the audio so far is repeated to fill it (the net was trained on "
        "full windows only, and silence in them misleads it); such scores are provisional."
    )
    return text if "Silence" in vocabulary.tags else text + _NO_SILENCE


_NO_SILENCE = " It has no tag for silence: silence is tagged as if it were music."
_WHY_SILENT = {
    "moodtheme": " (the published predictions tell them from the rest with a ROC-AUC below .60).",
    "mtat": " (negations, and words for what another tag says already).",
    "msd": " (singers: the net cannot tell them from soft pads).",
}


def _measured(known: Published) -> dict[str, str]:
    mean, largest = known.context
    facts = {
        "alone": f"a window's audio tagged alone: within {known.alone:g} of the published answers",
        "context": (
            f"inside a longer stream, probabilities move by {mean:g} on average and {largest:g} at "
            "most: the first and last frame see real neighbours instead of a mirror or silence"
        ),
    }
    if known.provisional:
        seconds = ", ".join(f"{after} s" for after in known.provisional)
        numbers = ", ".join(f"{correlation:g}" for correlation in known.provisional.values())
        facts["provisional"] = (
            f"scores after {seconds} correlate with those of the full window by {numbers}"
        )
    return facts


def _about_thresholds(kind: CheckpointKind, vocabulary: OutputVocabulary) -> str:
    if vocabulary.on:
        return (
            "0.1 for every tag but singing (0.03): of 160 clips of ten sounds (ESC-10) 0.1 "
            "finds 77 % and takes no other clip for one of them; of 44 excerpts with singers 0.03 "
            "finds 77 %, of 26 without none. Tags whose probability stays lower (moods of music, "
            "male and female singing) make no events"
        )
    if not vocabulary.rates:
        return f"{UNKNOWN_RATE_THRESHOLD} for every tag: not tuned, set them in the configuration"
    text = (
        f"not tuned on validation data, of which there is none: on = sqrt({kind.threshold_gain} · "
        f"share of the training clips with the tag), off = {OFF_TO_ON} · on"
    )
    if kind.net == "vggish":
        text += (
            "; on the predictions published for MediaEval 2019 this gives a macro F1 of .133 and "
            "2.9 tags per track (thresholds optimised on those very tracks: .166 and 5.8)"
        )
    return text

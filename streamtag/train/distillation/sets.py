"""The data of a distilled model: teacher scores, cached frames, splits and mixed windows.

A source of music is a repository, an album or a game. All recordings of some sources, and some
recordings of the others, chosen by name, are kept from training.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from streamtag.audio.front_end import frames_of
from streamtag.errors import RecipeError
from streamtag.feed.atomic_file import atomic_file
from streamtag.model.tagger import Tagger
from streamtag.train.data.broadcast import BroadcastChain
from streamtag.train.data.cache import FeatureCache
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import KnownItem
from streamtag.train.data.samples import ProgressCallback, Sets
from streamtag.train.data.sheet import SheetEntry, data_sheet
from streamtag.train.data.vocabulary import VocabularyTag, read_vocabulary
from streamtag.train.distillation.labels import TAUGHT, Labeller, all_scores, learn_labels
from streamtag.train.distillation.long_programme import LongProgrammes
from streamtag.train.distillation.mixing import (
    LABEL_STEP,
    KindColumns,
    LabelledTrack,
    MixedWindows,
    SoundMaterial,
    fixed_windows,
)
from streamtag.train.distillation.packages import packaged_music
from streamtag.train.distillation.programme import ProgrammeWindows
from streamtag.train.distillation.teachers import (
    TeacherScores,
    leniencies,
    logit_margins,
    soft_labels,
    teacher_scores,
)
from streamtag.train.distillation.truth import known_recordings
from streamtag.train.importing.importer import import_checkpoint
from streamtag.train.nets import NETS
from streamtag.train.recipes.file import load_recipe
from streamtag.train.recipes.recipe import Augment, Distil, Recipe
from streamtag.train.synthesis import sounds
from streamtag.train.synthesis.grooves import groove_items
from streamtag.train.synthesis.performances import performances
from streamtag.train.synthesis.prepared import PreparedWindows, load, prepare, soundfont_sets
from streamtag.train.synthesis.rated import rated_items

HOP_SECONDS = {True: 1.5, False: 6.0}
"""Seconds between a teacher's windows if they are short (True) or long (False)."""
SHORT_WINDOW = 10.0
"""Seconds below which a window is short."""
LARGEST_WEIGHT, COMMON_SHARE = 4.0, 0.1
"""A tag that fewer than this share of the recordings have is rare."""
RARE = 0.005
"""A tag that is on in a smaller share of a test is not scored there."""
MOST_JUDGED = 800
"""Mixtures of the validation and of the test at most."""
PHRASES = 100
"""Phrases of each real instrument, of which mixtures for training are made."""
WINDOWS_PER_TUNE = 10
"""Training windows of a tune or a piece."""
NOW_SECONDS = 3.0
"""What sounds at a moment of a tune is what sounds in so many seconds around it: those before the
moment that has its label (see `long_programme.LAG`)."""
VERSION = 2
"""Must be raised when the same sounds would give other frames."""
KNOWN_KINDS = ("speech", "music", "silence")
"""Tags whose truth is known without a teacher."""


@dataclass(frozen=True, slots=True)
class LabelledMusic:
    """Recordings by split, and their labels from the teachers."""

    items: Mapping[str, tuple[Item, ...]]
    """Recordings by `train`, `validation`, `unseen tracks` and `unseen sources`."""
    labels: Mapping[str, np.ndarray]
    """Labels by item, as `mixing.LabelledTrack` has them."""


def distillation_sets(
    recipe: Recipe, data: Path, cache: Path, report: ProgressCallback, workers: int | None = None
) -> Sets:
    """Everything that a student is trained and scored on.

    Args:
        recipe: with a section [distil].
        data: the folder with music, teachers, and what the instruments recipe needs.
        cache: keeps frames, teacher scores and renderings: some gigabytes.
        report: reports progress.
        workers: processes that read recordings.

    Raises:
        RecipeError: something is missing.
    """
    assert recipe.distil is not None
    want, vocabulary = recipe.distil, read_vocabulary(recipe.distil.vocabulary)
    if want.evidence:
        return _sets_by_evidence(recipe, data, cache, report, workers)
    music = label_music(want, vocabulary, data, cache, report)
    frames = _build_cache(recipe, music, cache, report, workers)
    windows = _instruments(recipe, data, cache, report)

    def mixed(split: str, parts: Sequence[str], count: int, **more: object) -> MixedWindows:
        tracks = tracks_of(music, frames, recipe.augment.audio_variants, parts)
        noises, speech = _noise_and_speech(recipe, data, cache, split)
        material = SoundMaterial(
            tracks, _mixtures(recipe, windows, vocabulary, split), noises, speech
        )
        return _mixed_windows(recipe, vocabulary, material, count, **more)

    only_music = {"shares": (1.0, 0.0, 0.0, 0.0), "plain": True}
    tests = {
        "music, unseen sources": fixed_windows(
            mixed("test", ["unseen sources"], want.judged, **only_music), want.judged, 3
        ),
        "music, unseen tracks": fixed_windows(
            mixed("test", ["unseen tracks"], want.judged // 2, **only_music), want.judged // 2, 4
        ),
        "everything unseen, as it might arrive": fixed_windows(
            mixed("test", ["unseen sources", "unseen tracks"], want.judged), want.judged, 5
        ),
    }
    tests |= _instrument_tests(recipe, windows, vocabulary)
    return Sets(
        tags=tuple(tag.tag for tag in vocabulary),
        train=mixed("train", ["train"], want.windows),
        validation=fixed_windows(mixed("validation", ["validation"], want.judged), want.judged, 2),
        tests=tests,
        note=recipe.data,
        rare=RARE,
        categories={tag.tag: tag.category for tag in vocabulary},
    )


def _sets_by_evidence(
    recipe: Recipe, data: Path, cache: Path, report: ProgressCallback, workers: int | None
) -> Sets:
    """The sets of a recipe with `distil.evidence`: windows of programmes, labels by evidence."""
    assert recipe.distil is not None
    want, vocabulary = recipe.distil, read_vocabulary(recipe.distil.vocabulary)
    tags, variants = tuple(tag.tag for tag in vocabulary), recipe.augment.audio_variants
    known, labeller, scores = learned_labels(recipe, data, cache, report)
    labels = {k.item.name: labeller.labels(scores[k.item.name], k) for k in known}
    if not hasattr(NETS.get(recipe.net.name), "begin_dense"):
        labels = {name: rows[:, : len(tags) + 3] for name, rows in labels.items()}
    frames = FeatureCache(
        cache, recipe.features, BroadcastChain(recipe.augment) if variants else None
    )
    varied = [k.item for k in known if k.item.split == "train" and np.isnan(k.valence)]
    frames.build(varied, variants=variants, workers=workers, progress=report)
    frames.build([k.item for k in known], variants=0, workers=workers, progress=report)
    windows = _instruments(recipe, data, cache, report) if want.instruments else None

    def mixed(split: str, count: int, *, plain: bool = False) -> ProgrammeWindows:
        some = [k for k in known if k.item.split == split and frames.has(k.item)]
        some = [k for k in some if not (plain and not np.isnan(k.valence))]
        own = [labels[k.item.name] for k in some]
        weights = sampling_weights([rows[:, : len(tags)] for rows in own])
        weights = weights if split == "train" else np.ones(len(some))
        weights = np.where([np.isnan(k.valence) for k in some], weights, RATED_WEIGHT)
        tracks = [
            LabelledTrack(
                tuple(
                    frames.frames(k.item, v) for v in range(variants + 1) if frames.has(k.item, v)
                ),
                rows,
                RATED_WEIGHT
                if not np.isnan(k.valence)
                else float(weight)
                if split == "train"
                else 1.0,
            )
            for k, rows, weight in zip(some, own, weights, strict=True)
        ]
        noises, speech = _noise_and_speech(recipe, data, cache, split)
        mixtures = _mixtures(recipe, windows, vocabulary, split) if windows else []
        if split == "train" and want.programme_seconds:
            tunes = _tunes(recipe, data, cache, vocabulary, report) if want.tunes else []
            material = SoundMaterial(tracks, mixtures, noises, speech, tunes)
            return _long_programmes(recipe, vocabulary, material)
        material = SoundMaterial(tracks, mixtures, noises, speech)
        return ProgrammeWindows(
            material, tags, recipe.features, recipe.window_frames, count, want.shares, plain=plain
        )

    def seconds(item: Item) -> float:
        return frames.n_frames(item) / recipe.features.frame_rate

    used, count = [k for k in known if frames.has(k.item)], want.judged
    tests = {
        "music, unseen sources": fixed_programme(mixed("test", count, plain=True), count, 3),
        "everything unseen, as it might arrive": fixed_programme(mixed("test", count), count, 5),
    }
    if windows:
        tests |= _instrument_tests(recipe, windows, vocabulary)
    return Sets(
        tags=tags,
        train=mixed("train", want.windows),
        validation=validation_windows(
            mixed("validation", count), mixed("validation", count, plain=True), count
        ),
        tests=tests,
        note=recipe.data,
        sheet=data_sheet(
            [*sheet_entries(used, labels, tags, seconds), *_sound_entries(recipe, data, cache)]
        ),
        rare=RARE,
        categories={tag.tag: tag.category for tag in vocabulary},
        beginning=labeller.first_weights(),
    )


def _long_programmes(
    recipe: Recipe, vocabulary: tuple[VocabularyTag, ...], material: SoundMaterial
) -> LongProgrammes:
    """The programmes of an epoch, with a moment for every embedding of the net."""
    assert recipe.distil is not None
    want, options = recipe.distil, recipe.net.options
    segment = int(options.get("segment_frames", recipe.hop_frames))
    return LongProgrammes(
        material,
        tuple(tag.tag for tag in vocabulary),
        recipe.features,
        recipe.window_frames,
        want.windows,
        want.shares,
        frames=round(want.programme_seconds * recipe.features.frame_rate),
        segment=segment,
        stride=int(options.get("stride_frames", 0)) or segment,
        families=tuple(i for i, tag in enumerate(vocabulary) if tag.family),
    )


def sheet_entries(
    known: Sequence[KnownItem],
    labels: Mapping[str, np.ndarray],
    tags: tuple[str, ...],
    seconds: Callable[[Item], float],
) -> list[SheetEntry]:
    """The recordings for the data sheet; a moment has a voice if the label of one is on.

    Args:
        known: the recordings.
        labels: of each by name, a row per `LABEL_STEP`.
        tags: the first columns of the labels.
        seconds: the length of a recording.
    """
    voices = [tags.index(tag) for tag in ("singing", "rap", "speech", "choir") if tag in tags]
    found = []
    for one in known:
        rows, kind = labels[one.item.name], one.item.name.partition("/")[0]
        voice = float((np.nan_to_num(rows[:, voices]) >= 0.5).any(axis=1).mean())
        entry = SheetEntry(
            SHEET_KINDS.get(kind, kind), one.item.split, one.licence, seconds(one.item), voice
        )
        found.append(entry)
    return found


def _sound_entries(recipe: Recipe, data: Path, cache: Path) -> list[SheetEntry]:
    """Noise and speech for the data sheet."""
    found = []
    for split in ("train", "validation", "test"):
        noises, speech = _noise_and_speech(recipe, data, cache, split)
        for kind, some, licence, voice in (
            ("noise", noises, sounds.NOISE_LICENCE, 0.0),
            ("speech", speech, sounds.SPEECH_LICENCE, 1.0),
        ):
            seconds = sum(map(len, some)) / recipe.features.frame_rate
            found.append(SheetEntry(kind, split, licence, seconds, voice))
    return found


SHEET_KINDS = {
    "music": "music",
    "songs": "music",
    "debian": "music",
    "emopia": "judged piano pieces, rendered",
    "grooves": "arrangements, rendered",
}
"""Kinds of the data sheet by the first part of a recording's name."""
RATED_WEIGHT = 0.5
"""How often a rendering of a judged clip is drawn, relative to a recording of its length."""


def learned_labels(
    recipe: Recipe, data: Path, cache: Path, report: ProgressCallback
) -> tuple[list[KnownItem], Labeller, dict[str, dict[str, TeacherScores]]]:
    """The recordings, what was learned about the teachers, and their scores of each recording.

    Raises:
        RecipeError: recordings or teachers are missing.
    """
    assert recipe.distil is not None
    want, vocabulary = recipe.distil, read_vocabulary(recipe.distil.vocabulary)
    teachers = load_teachers(want, data, cache)
    recorded = known_recordings(data)
    packaged = packaged_music() if want.packages else []
    rendered = rated_items(data, cache / "rated", want.rated, report) if want.rated else []
    if want.grooves:
        rendered += groove_items(cache / "grooves", want.grooves, report)
    some = {name: teachers[name] for name in teachers if name in (TAUGHT, "msd")}
    scores = {
        k.item.name: said
        for known, heard in ((recorded, teachers), (packaged, teachers), (rendered, some))
        for k, said in zip(
            known, all_scores(heard, [k.item for k in known], cache, report), strict=True
        )
    }
    training = [(k, scores[k.item.name]) for k in recorded if k.item.split == "train"]
    cards = {name: tagger.card for name, tagger in teachers.items()}
    labeller = learn_labels(vocabulary, cards, training, want.sharpness)
    (cache / "evidence.md").write_text(
        labeller.combination.table([tag.tag for tag in vocabulary]) + "\n", encoding="utf-8"
    )
    return [*recorded, *packaged, *rendered], labeller, scores


def validation_windows(
    arriving: ProgrammeWindows, alone: ProgrammeWindows, count: int
) -> PreparedWindows:
    """Windows as they might arrive, and as many of music to which nothing is done.

    Music that goes on is what a listener hears most of the time, and there a net is surer than
    after a cut or under speech: with the first windows alone its probabilities were too timid.

    Args:
        arriving: draws windows of programmes.
        alone: draws windows of music.
        count: windows of both together.
    """
    one, other = (
        fixed_programme(source, count // 2, seed) for source, seed in ((arriving, 2), (alone, 6))
    )
    assert one.dimensions is not None
    assert other.dimensions is not None
    return PreparedWindows(
        np.concatenate([one.frames, other.frames]),
        np.concatenate([one.targets, other.targets]),
        one.tags,
        np.concatenate([one.dimensions, other.dimensions]),
    )


def fixed_programme(source: ProgrammeWindows, count: int, seed: int) -> PreparedWindows:
    """Windows drawn once, with hard targets of the tags, for validation and test."""
    drawn = [source.sample(i, 0, np.random.default_rng([seed, i])) for i in range(count)]
    n_tags = len(source.tags)
    soft = np.stack([s.targets[:n_tags] for s in drawn])
    dimensions = np.stack([s.targets[n_tags : n_tags + 3] for s in drawn])
    hard = np.where(np.isnan(soft), np.nan, soft >= 0.5).astype(np.float32)
    frames = np.stack([s.frames for s in drawn]).astype(np.float16)
    return PreparedWindows(frames, hard, source.tags, dimensions)


def music_items(want: Distil, data: Path) -> dict[str, tuple[Item, ...]]:
    """The recordings by split: whole sources for the test, and some tracks of the others by
    name.

    Raises:
        RecipeError: there is no table, or a source is not in it.
    """
    folder = data / want.music
    try:
        with (folder / "train.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except OSError as error:
        raise RecipeError(f"{folder}: expected train.tsv, got: {error.strerror}") from error
    found: dict[str, list[Item]] = {
        name: [] for name in ("train", "validation", "unseen tracks", "unseen sources")
    }
    sources = {row["source"] for row in rows}
    if unknown := sorted(set(want.unseen_sources) - sources):
        raise RecipeError(f"distil.unseen_sources: expected sources of {folder / 'train.tsv'}, "
                          f"got {unknown[0]!r}")  # fmt: skip
    for row in rows:
        path = folder / row["file"]
        part = music_split(path.stem, row["source"] in want.unseen_sources)
        found[part].append(Item(path.stem, path, (), "train", row["source"]))
    return {name: tuple(items) for name, items in found.items()}


def music_split(name: str, unseen_source: bool) -> str:
    """The split of a recording, by a checksum of its name."""
    if unseen_source:
        return "unseen sources"
    draw = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 100
    return "validation" if draw < 13 else "unseen tracks" if draw < 22 else "train"


def load_teachers(want: Distil, data: Path, cache: Path) -> dict[str, Tagger]:
    """The teachers by name, imported if necessary.

    Raises:
        RecipeError: an entry has the wrong form.
        BundleError: a checkpoint cannot be used.
    """
    folder, found = cache / "teachers", {}
    folder.mkdir(parents=True, exist_ok=True)
    for text in want.teachers:
        name, _, rest = text.partition("=")
        kind, _, checkpoint = rest.partition(":")
        if not (name and kind and checkpoint):
            raise RecipeError(f"distil.teachers: expected NAME=KIND:CHECKPOINT, got {text!r}")
        bundle = folder / f"{name}.pt"
        if not bundle.exists():
            import_checkpoint(kind, data / checkpoint, None, bundle)
        found[name] = Tagger.load(bundle, "auto")
    return found


def tracks_of(
    music: LabelledMusic, frames: FeatureCache, variants: int, parts: Sequence[str]
) -> list[LabelledTrack]:
    """The recordings of some parts with frames and labels; broken ones are left out."""
    some = [item for part in parts for item in music.items[part] if frames.has(item)]
    labels = [music.labels[item.name] for item in some]
    weights = sampling_weights(labels) if "train" in parts else np.ones(len(some))
    out = []
    for item, own, weight in zip(some, labels, weights.tolist(), strict=True):
        have = [v for v in range(variants + 1) if frames.has(item, v)]
        out.append(LabelledTrack(tuple(frames.frames(item, v) for v in have), own, weight))
    return out


def sampling_weights(labels: Sequence[np.ndarray]) -> np.ndarray:
    """How often each recording is drawn, (n,): up to `LARGEST_WEIGHT`, by its rarest tag.

    Args:
        labels: (n_moments, n_tags) soft decisions of each.
    """
    on = np.stack([np.nan_to_num(own).mean(axis=0) >= 0.5 for own in labels])
    share = np.maximum(on.mean(axis=0), 1e-9)
    weight = np.clip(np.sqrt(COMMON_SHARE / share), 1, LARGEST_WEIGHT)
    out: np.ndarray = np.where(on, weight, 1).max(axis=1)
    return out


def label_music(
    want: Distil,
    vocabulary: tuple[VocabularyTag, ...],
    data: Path,
    cache: Path,
    report: ProgressCallback,
) -> LabelledMusic:
    """The recordings by split with soft labels; teachers run only where their scores are not
    cached.

    Raises:
        RecipeError: there is no music.
        BundleError: a teacher cannot be used.
    """
    items = music_items(want, data)
    teachers = load_teachers(want, data, cache)
    hops = {n: HOP_SECONDS[t.card.window_seconds < SHORT_WINDOW] for n, t in teachers.items()}
    cards = {name: tagger.card for name, tagger in teachers.items()}
    everything = [item for part in items.values() for item in part]
    found = {}
    for i, item in enumerate(everything):
        scores = teacher_scores(teachers, item, hops, cache / "opinions")
        found[item.name] = logit_margins(
            vocabulary, scores, cards, np.arange(0, _labelled_seconds(scores), LABEL_STEP)
        )
        report("teachers", i + 1, len(everything))
    leniency = leniencies(np.concatenate([found[item.name] for item in items["train"]]), want)
    return LabelledMusic(
        items, {n: soft_labels(z, leniency, want.sharpness) for n, z in found.items()}
    )


def _labelled_seconds(scores: Mapping[str, TeacherScores]) -> float:
    """Seconds with labels; after the last window its label stays."""
    return max(float(of_teacher.moments[-1]) for of_teacher in scores.values()) + 2.0


def _build_cache(
    recipe: Recipe, music: LabelledMusic, cache: Path, report: ProgressCallback, workers: int | None
) -> FeatureCache:
    variants = recipe.augment.audio_variants
    frames = FeatureCache(
        cache, recipe.features, BroadcastChain(recipe.augment) if variants else None
    )
    seen = [i for part, items in music.items.items() for i in items if part in VARIED_SPLITS]
    rest = [i for part, items in music.items.items() for i in items if part not in VARIED_SPLITS]
    frames.build(seen, variants=variants, workers=workers, progress=report)
    frames.build(rest, variants=0, workers=workers, progress=report)
    return frames


VARIED_SPLITS = ("train", "validation")
"""Parts that also have degraded versions."""


def _instruments(recipe: Recipe, data: Path, cache: Path, report: ProgressCallback) -> Path:
    """The folder with the mixtures of the instruments recipe, made if necessary.

    Raises:
        RecipeError: they have another front end or length.
    """
    assert recipe.distil is not None
    other = instrument_recipe(recipe)
    for name in ("features", "window_frames", "first_frames"):
        if getattr(other, name) != getattr(recipe, name):
            raise RecipeError(
                f"distil.instruments: expected a recipe with the same {name}, "
                f"got {recipe.distil.instruments!r}"
            )
    return prepare(other, data, cache, report)


def instrument_recipe(recipe: Recipe) -> Recipe:
    """The recipe whose mixtures teach the families of instruments."""
    assert recipe.distil is not None
    want, other = recipe.distil, load_recipe(recipe.distil.instruments)
    if not want.evidence or other.mixtures is None:
        return other
    judged = max(8, min(MOST_JUDGED, want.mixtures // 10))
    mixed = replace(
        other.mixtures, train=want.mixtures, validation=judged, test=judged, strangers=8,
        phrases_per_instrument=PHRASES, tunes=want.tunes or other.mixtures.tunes,
        windows_per_piece=WINDOWS_PER_TUNE if want.tunes else 0,
    )  # fmt: skip
    return replace(
        other, features=recipe.features, window_frames=recipe.window_frames,
        first_frames=recipe.first_frames, mixtures=mixed,
    )  # fmt: skip


def _mixtures(
    recipe: Recipe, windows: Path, vocabulary: tuple[VocabularyTag, ...], split: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mixtures with the truth about families, in the student's columns."""
    assert recipe.distil is not None
    other = instrument_recipe(recipe)
    names = [f"mixtures-{split}"]
    names += soundfont_sets(other, split) if split != "test" else []
    out = []
    for name in names:
        found = load(windows, name)
        out.append((found.frames, student_targets(found.targets, other.tags, vocabulary)))
    return out


def _tunes(
    recipe: Recipe,
    data: Path,
    cache: Path,
    vocabulary: tuple[VocabularyTag, ...],
    report: ProgressCallback,
) -> list[LabelledTrack]:
    """Rendered tunes and pieces with the truth of every moment, in the student's columns."""
    other = instrument_recipe(recipe)
    return [
        LabelledTrack(
            (one.frames,),
            student_targets(one.targets(LABEL_STEP, NOW_SECONDS), other.tags, vocabulary),
        )
        for one in performances(other, data, cache, report)
    ]


UNSUNG = frozenset(
    (
        "vocals",
        "female vocals",
        "male vocals",
        "opera",
        "singing",
        "female voice",
        "male voice",
        "rap",
    )
)
"""Tags that mixtures of instruments never have."""


def student_targets(
    targets: np.ndarray, families: tuple[str, ...], vocabulary: tuple[VocabularyTag, ...]
) -> np.ndarray:
    """(n, n_families) targets in the student's columns, (n, n_tags) float32.

    Where an instrument sounds there is music and nobody sings; genres and moods are unknown. Where
    none sounds (noise, speech) everything else is unknown.
    """
    out = np.full((len(targets), len(vocabulary)), np.nan, np.float32)
    for i, tag in enumerate(vocabulary):
        if tag.family:
            out[:, i] = targets[:, families.index(tag.family)]
        elif tag.tag in UNSUNG:
            out[:, i] = 0
    loudest = np.nanmax(np.nan_to_num(targets), axis=1)
    out[:, _column(vocabulary, "music")] = np.where(loudest >= 0.75, 1, np.nan)
    return out


def _instrument_tests(
    recipe: Recipe, windows: Path, vocabulary: tuple[VocabularyTag, ...]
) -> dict[str, PreparedWindows]:
    """Test sets of notes and tunes that are not in training, also with an unknown soundfont."""
    assert recipe.distil is not None
    other = instrument_recipe(recipe)
    assert other.mixtures is not None
    sets = {"instruments, unseen notes mixed": ["mixtures-test"]}
    for kind in ("tunes", "pieces") if other.mixtures.windows_per_piece else ():
        known = [f"{kind}-test-{font}" for font in other.mixtures.soundfonts]
        sets[f"instruments, unseen {kind}, known soundfonts"] = known
        unknown = [f"{kind}-test-{font}" for font in other.mixtures.unseen_soundfonts]
        sets[f"instruments, unseen {kind}, unknown soundfont"] = unknown
    out = {}
    for title, names in sets.items():
        found = load(windows, *names)
        table = student_targets(found.targets, other.tags, vocabulary)
        table[:, [i for i, tag in enumerate(vocabulary) if not tag.family]] = np.nan
        material = SoundMaterial([], [(found.frames, table)], [], [])
        count = min(len(table), recipe.distil.judged // 2)
        source = _mixed_windows(
            recipe, vocabulary, material, count, shares=(0.0, 1.0, 0.0, 0.0), plain=True
        )
        out[title] = fixed_windows(source, count, 6)
    return out


def _noise_and_speech(
    recipe: Recipe, data: Path, cache: Path, split: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of a split's noise and speech, from a file if they were made before."""
    augment = replace(recipe.augment, audio_level_db=0.0)
    key = [VERSION, recipe.seed, split, recipe.features.to_dict(), asdict(augment)]
    synthetic = recipe.distil is not None and recipe.distil.evidence and split == "train"
    key += [sounds.SYNTHETIC_NOISES] if synthetic else []
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    path = cache / f"sounds-{name}.npz"
    if not path.exists():
        rate = recipe.features.sample_rate
        own = sounds.synthetic_noises(rate, recipe.seed) if synthetic else []
        found = {
            "noise": sounds.noises(data, split, rate) + own,
            "voice": sounds.speech(data, split, rate, recipe.seed),
        }
        arrays = {
            f"{kind} {i:04d}": frames
            for kind, some in found.items()
            for i, frames in enumerate(_sound_frames(recipe, augment, some, split))
        }
        with atomic_file(path) as partial:
            np.savez(partial, **arrays)  # type: ignore[arg-type]  # of NumPy: it takes any names
    with np.load(path) as arrays:
        loaded = {name: arrays[name] for name in sorted(arrays.files)}
    noises = [frames for name, frames in loaded.items() if name.startswith("noise")]
    return noises, [frames for name, frames in loaded.items() if name.startswith("voice")]


def _sound_frames(
    recipe: Recipe, augment: Augment, some: Sequence[np.ndarray], split: str
) -> list[np.ndarray]:
    """Frames of sounds, float16; for training and validation degraded ones too."""
    features = recipe.features
    out = [frames_of(samples, features).astype(np.float16) for samples in some]
    if augment.audio_variants and split != "test":
        chain, rng = BroadcastChain(augment), np.random.default_rng([recipe.seed, 41])
        changed = [chain(samples, features.sample_rate, rng) for samples in some]
        out += [frames_of(np.clip(s, -1, 1), features).astype(np.float16) for s in changed]
    return [frames for frames in out if len(frames)]


def _mixed_windows(
    recipe: Recipe,
    vocabulary: tuple[VocabularyTag, ...],
    material: SoundMaterial,
    count: int,
    **more: object,
) -> MixedWindows:
    assert recipe.distil is not None
    columns = KindColumns(*(_column(vocabulary, tag) for tag in KNOWN_KINDS))
    n_dimensions = len(recipe.distil.dimensions)
    settings: dict[str, object] = {"shares": recipe.distil.shares, "n_dimensions": n_dimensions}
    settings |= more
    return MixedWindows(
        material,
        tuple(tag.tag for tag in vocabulary),
        columns,
        recipe.features,
        recipe.window_frames,
        recipe.first_frames,
        count,
        **settings,  # type: ignore[arg-type]
    )


def _column(vocabulary: tuple[VocabularyTag, ...], name: str) -> int:
    for i, tag in enumerate(vocabulary):
        if tag.tag == name:
            return i
    raise RecipeError(f"vocabulary: expected a tag {name!r}, found none")

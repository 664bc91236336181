"""The contents of a recipe: net, front end, data, augmentation, training and thresholds.

The classes are pydantic dataclasses: types and ranges are checked when one is made. `file` reads
them from TOML.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from streamtag.audio.feature_config import FeatureConfig, Log
from streamtag.errors import RecipeError, raises
from streamtag.model.card import DIMENSIONS, PastPadding
from streamtag.train.data.vocabulary import CATEGORIES
from streamtag.train.recipes.codecs import codec_of

CLEAREST_DB = 40.0
"""The largest signal-to-noise ratio in dB of the noise of `Augment.noise_db`."""
POPULARITY = "popularity"
"""The only net that is not trained, so that its recipe needs no stage."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0)]
TRAINING_SEEDS = 1_000_003
"""From the seed of one training of a recipe to that of the next."""
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Decibels = Annotated[float, Field(ge=0, le=100)]
Odds = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Rule = Literal["f_beta", "roc_elbow", "equal_error", "half"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""The rules of thresholds; all but the last choose them on data."""

STRICT = ConfigDict(extra="forbid", strict=True)


class Task(StrEnum):
    """What the net learns."""

    TAG = "tag"
    RECONSTRUCT = "reconstruct"
    """The input itself, without labels: pre-training of an autoencoder."""


class Cut(StrEnum):
    """Where windows are cut from a recording."""

    RANDOM = "random"
    """At random places, new ones in each epoch."""
    DRAWN = "drawn"
    """At random places, drawn once before the training."""
    CENTRE = "centre"
    """One window from the middle."""
    FIRST = "first"
    """One window from the beginning."""
    SEGMENTS = "segments"
    """The first `segments` windows, one after the other."""
    CONSECUTIVE = "consecutive"
    """All windows, one after the other. A shorter rest at the end is dropped unless it is all."""
    STRETCHED = "stretched"
    """The whole recording as one window of its own length, which the net must allow."""


class Short(StrEnum):
    """What happens to a recording that is shorter than a window."""

    DISCARD = "discard"
    """The recording is not used."""
    WRAP = "wrap"
    """The recording is repeated until the window is full."""
    MINIMUM = "minimum"
    """The recording is centred, with its smallest value on both sides."""
    EITHER = "either"
    """The recording is centred, and chance decides between WRAP and MINIMUM (P1, 4.1)."""
    SILENCE = "silence"
    """The recording ends the window, after frames of digital silence, as a live stream begins."""


class Schedule(StrEnum):
    """How the learning rate changes within a stage."""

    CONSTANT = "constant"
    COSINE = "cosine"
    """A linear rise over `warmup` of the steps, then half a cosine down to 0."""
    LINEAR = "linear"
    """A linear rise over `warmup_epochs`, constant for `hold_epochs`, a linear fall over
    `fall_epochs` to `last_lr`, then constant."""
    PLATEAU = "plateau"
    """Multiplied by `factor` after `plateau_patience` epochs without a lower validation loss."""


def _net(value: Any) -> Any:
    """`[net]` has the options of the net beside its name."""
    if isinstance(value, Net):
        return value
    if not isinstance(value, dict) or type(value.get("name")) is not str:
        raise ValueError(f"expected a table with a name, got {value!r}")
    options = value.get("options", {key: v for key, v in value.items() if key != "name"})
    return Net(value["name"], options)


def _parts(value: int | str) -> int | str:
    """A number of parts, or `auto`."""
    if value != "auto" and (isinstance(value, str) or value < 1):
        raise ValueError(f"expected 'auto' or a number of parts, at least 1, got {value!r}")
    return value


def _codec(text: str) -> str:
    """A known codec as it is written."""
    try:
        return str(codec_of(text))
    except RecipeError as error:  # pydantic adds the key
        raise ValueError(str(error).removeprefix("codec: ")) from None


@dataclass(frozen=True, slots=True, config=STRICT)
class Net:
    """Which net, and the options of this variant."""

    name: str
    """A key of `nets.NETS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of its constructor."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Recordings:
    """How labelled recordings become windows. The command line names the recordings."""

    subset: str = ""
    """For MTG-Jamendo the category of tags (`mood/theme`), for MagnaTagATune how many of the most
    frequent tags (`50`). Empty means all."""
    split: str = ""
    """`split-0` … `split-4` for MTG-Jamendo; `random` or `folders` for MagnaTagATune. Empty means
    the first."""
    train: Cut = Cut.RANDOM
    validation: Cut = Cut.CENTRE
    test: Cut = Cut.CENTRE
    segments: Count = 1
    """Windows per recording and epoch, unless the cut determines them."""
    short: Short = Short.WRAP
    """Applies to training."""
    short_judged: Short = Short.WRAP
    """Applies to validation and test."""
    shuffle: Literal["windows", "recordings", "batches"] = "windows"
    """What is shuffled in training: windows; recordings, whose windows come one after the other; or
    batches, of the same recordings in each epoch (as Keras shuffles a `Sequence`)."""
    top_db_from: Literal["stream", "recording"] = "stream"
    """The largest value that `features.top_db` refers to: the largest so far, as live, or that of
    the whole recording, for which each recording is read twice."""
    side: int = 0
    """Number of values per recording that a side file gives to the net beside the frames."""


FEWEST_TUNES = 8
"""Validation and test have an eighth of the training's tunes."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Mixtures:
    """What is mixed from single instruments, and which pieces are rendered whole."""

    soundfonts: tuple[str, ...]
    """File names without endings. All of them are used in training."""
    unseen_soundfonts: tuple[str, ...]
    """Used in tests only, to measure what another synthesiser does to the scores."""
    train: Count
    """Windows mixed from the stems of the training split."""
    validation: int
    """Windows mixed from the stems of the validation split."""
    test: int
    """Windows mixed from real notes of the test split alone."""
    strangers: Annotated[int, Field(ge=8)]
    """Training windows of noise and speech without music; validation has an eighth as many."""
    phrases_per_program: int
    """Rendered phrases per General MIDI program and soundfont in training."""
    phrases_per_instrument: int
    """Phrases of real notes per instrument in training."""
    phrase_seconds: float
    """Length of a phrase in seconds."""
    tunes: Annotated[int, Field(ge=FEWEST_TUNES)]
    """Folk tunes in random orchestrations in training; other splits have an eighth as many, up to
    24."""
    windows_per_piece: int
    """Training windows cut from each piece and tune; 0 means that no pieces are rendered."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Distil:
    """What a student learns from larger taggers and from synthetic mixtures, noise and speech."""

    vocabulary: str
    """The name of a table in `data/vocabularies/`."""
    teachers: Annotated[tuple[str, ...], Field(min_length=1)]
    """`VOCABULARY-NET=KIND:CHECKPOINT` each. Checkpoints are below the data folder; kinds are those
    of `streamtag import`."""
    music: str
    """A folder of recordings below the data folder, with a table `train.tsv`: file, source."""
    unseen_sources: tuple[str, ...]
    """Sources of that table whose recordings are all kept for the test."""
    instruments: str
    """A recipe whose mixtures teach the families of instruments; same front end and window. With
    `evidence` they are mixed anew with this one's; empty means none."""
    dimensions: tuple[str, ...] = ()
    """`["valence", "arousal"]`: the net gives these too, with their deviations (see
    `nets.dimensions`)."""
    sharpness: Positive = 2.0
    """Slope of the soft labels (see `distillation.teachers`)."""
    leniency: tuple[float, float] = (0.5, 1.0)
    """Offset of the soft labels in logits: for common tags, and the largest for rare ones."""
    common: float = 0.025
    """A tag that is on in at least this share of the training music counts as common."""
    gate: Positive = 1.0
    """Exponent of the probability of music, by which those of genres, instruments and moods are
    multiplied."""
    windows: Count = 24000
    """Windows per epoch."""
    judged: int = 4000
    """Windows in the validation set and in each test set."""
    shares: tuple[float, float, float, float] = (0.55, 0.25, 0.15, 0.05)
    """Shares of the windows: music, mixtures, noise and speech, silence."""
    evidence: bool = False
    """Teachers count by evidence, and the truth above them, on the recordings of `music` and
    `songs` (see `distillation.evidence`); then `music`, `unseen_sources`, `leniency` and `common`
    do not matter."""
    mixtures: Natural = 4000
    """Training windows mixed from the stems of `instruments`; with `evidence`."""
    tunes: Natural = 0
    """Tunes that are orchestrated anew for the training, and all pieces of `instruments` besides;
    0 for neither; with `evidence`."""
    rated: Natural = 0
    """Renderings of each clip that people have judged the mood of; with `evidence`."""
    packages: bool = False
    """Music of Debian's packages for the training, too; with `evidence`."""
    programme_seconds: NotNegative = 0.0
    """Seconds of the programmes that a net learns from, with targets for every moment; 0 for
    windows; with `evidence`."""
    grooves: Natural = 0
    """Arrangements in each style of `synthesis.grooves`; with `evidence`."""

    @model_validator(mode="after")
    def _sum_to_1(self) -> Self:
        if abs(sum(self.shares) - 1) >= 1e-6:
            raise ValueError(f"shares: expected four shares that sum to 1, got {self.shares!r}")
        if 0 < self.tunes < FEWEST_TUNES:
            raise ValueError(f"tunes: expected 0, or {FEWEST_TUNES} or more, got {self.tunes}")
        if self.dimensions not in ((), DIMENSIONS):
            raise ValueError(
                f"dimensions: expected none or {list(DIMENSIONS)}, got {list(self.dimensions)}"
            )
        return self


@raises(RecipeError, "augment.")
@dataclass(frozen=True, slots=True, config=STRICT)
class Augment:
    """What makes training windows different each time. Everything is off by default."""

    mixup_alpha: NotNegative = 0.0
    """λ ~ Beta(alpha, alpha) per window; inputs and labels are mixed (Zhang et al. 2017)."""
    mixup_larger: bool = False
    """λ ← max(λ, 1 − λ) (Koutini et al. 2019, their code)."""
    mixup_two_orders: bool = False
    """The partner comes from a second, independently shuffled pass over the data (Sukhavasi
    and Adapa 2019, their code) instead of from the same batch."""
    crop_chance: Share = 0.0
    """Probability of scaling a random box back to the whole window (Sukhavasi and Adapa 2019)."""
    crop_area: tuple[float, float] = (0.8, 1.0)
    """Smallest and largest share of the window that the box keeps."""
    crop_literal: bool = False
    """Crop as the code of that paper behaves: always the centre `width × 221` frames."""
    mask_chance: Share = 0.0
    """Probability of masking blocks of bands and of frames (Park et al., SpecAugment, 2019)."""
    mask_rounds: Count = 2
    """Largest number of rounds; each number from 1 on is equally likely."""
    mask_bands: Share = 0.15
    """Largest share of the bands that is masked per round."""
    mask_frames: Share = 0.20
    """Largest share of the frames that is masked per round."""
    shift_frames: Natural = 0
    """Largest circular shift in frames, either way (Koutini et al. 2019, their code)."""
    mix_share: Share = 0.0
    """Share of the windows to which another window's power is added; natural logarithms only."""
    level_db: NotNegative = 0.0
    """Standard deviation in dB of a window's change of level; natural logarithms only."""
    colour_db: NotNegative = 0.0
    """The same at five places of the spectrum."""
    band_masks: Natural = 0
    """Largest number of neighbouring mel bands that are set to the window's mean."""
    audio_variants: Natural = 0
    """Versions of each recording besides the clean one. The keys below say how the audio of a
    version is degraded before the front end. Epochs use the versions in turn."""
    codecs: tuple[Annotated[str, AfterValidator(_codec)], ...] = ()
    """`CODEC:KBIT` each, CODEC one of mp3, aac, opus, KBIT the bit rate of one channel. One is
    chosen for half of the versions."""
    audio_level_db: Decibels = 0.0
    """Largest change of level in dB, either way."""
    audio_eq_db: Decibels = 0.0
    """Standard deviation in dB of a random equaliser."""
    noise_db: Annotated[float, Field(ge=0, le=CLEAREST_DB)] = 0.0
    """Smallest signal-to-noise ratio in dB, the largest being 40; 0 means no noise."""
    room_chance: Share = 0.0
    """Probability of reverberation."""
    speed: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Largest change of tempo and pitch, either way: 0.04 is 4 %. Every 20 s the version goes on
    from the right place."""
    station_chance: Share = 0.0
    """Probability of a compressor and a limiter, as stations use them."""
    mono_chance: Share = 0.0
    """Probability of a sum of two channels of which one is up to 8 ms later."""
    record_chance: Share = 0.0
    """Probability of an old record: a narrow band, hiss, crackle."""
    venue_chance: Share = 0.0
    """Probability of a hall (1 to 2.5 s of reverberation) heard through a cheap microphone."""
    telephone_chance: Share = 0.0
    """Probability of a telephone: 8 kHz, above 300 Hz, 8 bits of µ-law."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(
                "crop_area: expected two shares in (0, 1], the smaller one first, got "
                f"{self.crop_area!r}"
            )
        if len(set(self.codecs)) != len(self.codecs):
            raise ValueError(f"codecs: expected no codec twice, got {self.codecs!r}")
        return self

    @property
    def degrades_audio(self) -> bool:
        """Whether a version of a recording differs from the clean one."""
        return bool(
            self.codecs or self.noise_db or self.room_chance or self.audio_eq_db
            or self.audio_level_db or self.speed or self.station_chance or self.mono_chance
            or self.record_chance or self.venue_chance or self.telephone_chance
        )  # fmt: skip


@dataclass(frozen=True, slots=True, config=STRICT)
class Stage:
    """A part of the training with one optimiser."""

    epochs: Count
    """The largest number of epochs."""
    lr: Positive
    """The largest learning rate."""
    optimizer: Literal["adam", "amsgrad", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    momentum: float = 0.9
    """Used by sgd."""
    nesterov: bool = True
    """Used by sgd."""
    epsilon: Positive = 1e-8
    """Used by the others: added to their denominators; 1e-7 in Keras."""
    keep_optimizer: bool = False
    """The stage goes on with the momentum of the stage before."""
    schedule: Schedule = Schedule.CONSTANT
    interval: Literal["step", "epoch"] = "step"
    """Whether the schedule changes the learning rate at every step or at every epoch."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup_epochs: int = 0
    hold_epochs: int = 0
    fall_epochs: int = 0
    last_lr: float = 0.0
    factor: float = 0.1
    plateau_patience: int = 5
    step_decay: float = 0.0
    """lr / (1 + step_decay · steps of this stage) (Keras' decay; P3, section 6)."""
    embedded: Natural = 0
    """Only the head learns, from the embeddings of so many programmes, computed once; 0 means that
    the whole net learns."""
    segments: Natural = 0
    """Only the small net beside the trunk learns, from so many segments an epoch; 0 means that it
    stays as it is."""
    patience: int = 0
    """The stage ends after so many epochs without a better score; 0 means never."""
    reload_best: bool = False
    """The stage begins with the best weights so far."""
    rewind: bool = False
    """Epochs are counted on from the best one: P3's restarts share one budget of epochs."""


@dataclass(frozen=True, slots=True, config=STRICT)
class Fit:
    """How the weights are found."""

    batch_size: Count
    stages: tuple[Stage, ...]
    accumulate: Annotated[int | str, AfterValidator(_parts)] = "auto"
    """In how many parts a batch is computed, whose gradients are added up. `auto`: as few as the
    free memory allows. Batch normalisation sees a part at a time."""
    select: Literal["pr_auc", "roc_auc", "loss", "last"] = "pr_auc"
    """The measure of the best epoch: pr_auc, roc_auc or loss on validation data, or last."""
    per_window: bool = False
    """That measure takes each validation window as a sample, instead of each recording's mean."""
    drop_last: bool = False
    """The last batch of an epoch is left out if it is smaller than the others."""
    max_epochs: int = 0
    """Limit for all stages together; 0 means no further limit."""
    pos_weight: Positive = 1.0
    """Factor on the loss of positives."""
    balanced: bool = False
    """Each tag's positives also weigh negatives/positives of the training set (at most 50)."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0 means no limit."""
    amp: bool = False
    """Automatic mixed precision on a GPU."""
    per_tag: bool = False
    """Early stopping for every tag alone: its column comes from its own best epoch (P1, 4.2)."""
    per_tag_members: int = 0
    """Largest number of epochs kept for that; 0 means no limit."""
    swa_start: int = 0
    """First epoch (from 1) whose weights go into a running mean (Izmailov 2018); 0 means never."""
    swa_every: int = 3
    """Epochs between two that go into the mean."""
    snapshots: int = 0
    """The bundle averages the best epoch and so many of the last means (P4, 7.5)."""
    logit_weight: NotNegative = 0.0
    """Weight of the distance of logits from those of soft targets, beside the cross-entropy."""
    normalise: bool = False
    """Bands are scaled to mean 0 and deviation 1 over the training set."""
    trainings: Count = 1
    """The net is trained so many times from the same weights on the same data, each time in another
    order, with other augmentation and dropout; the bundle has the mean of the weights (Wortsman et
    al., "Model soups", 2022)."""
    draw: Whole = 0
    """Which of those trainings this is, from 0; `trainings` sets it."""


def _category(name: str) -> str:
    """A category of tags, checked."""
    if name not in CATEGORIES:
        raise ValueError(f"expected one of {', '.join(CATEGORIES)}, got {name!r}")
    return name


@dataclass(frozen=True, slots=True, config=STRICT)
class Thresholds:
    """How probabilities become decisions."""

    rule: Rule = "f_beta"
    """f_beta (largest F1 for beta = 1), roc_elbow or equal_error, on validation data; or half:
    0.5 for every tag, none of which is off by default."""
    per_window: bool = False
    """Each validation window is a sample, instead of each recording's mean."""
    beta: Positive = 1.0
    """Recall counts so many times as much as precision."""
    smallest_roc_auc: float = 0.5
    """A tag whose validation ROC-AUC may lie below this by chance is off by default."""
    smallest_lift: float = 1.0
    """So is a tag whose PR-AUC is smaller than so many times its prior."""
    smallest_threshold: Share = 0.0
    """A tag that would switch on at a smaller probability is off by default."""
    smallest_f1: float = 0.0
    """So is a tag whose decisions reach a smaller F1 in validation."""
    smallest_recall: Share = 0.0
    """At least about this share of a tag's validation windows reach its on threshold."""
    off_ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Off threshold divided by on threshold."""
    stray_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the windows in which no tag is on, such as noise, at most this share reaches a
    threshold."""
    settling_change: Share = 0.0
    """`change` of the card's `Settling`; 0 for none: the thresholds are the same at all times."""
    settling_seconds: Positive = 5.0
    """After a change, from which on tags have settled."""
    settled_odds: Odds = 1.0
    """Odds at the on threshold of a tag that has settled, divided by those after a change."""
    settled_odds_of: Mapping[Annotated[str, AfterValidator(_category)], Odds] = field(
        default_factory=dict
    )
    """The same for the tags of a category, by its name: a genre is that of the whole piece, but an
    instrument or a voice may come in later."""
    settled_off_ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Its off threshold, divided by the on threshold after a change; at most `off_ratio` counts."""
    again_seconds: NotNegative = 0.0
    """For so long after a tag has gone off, it needs the settled threshold to come on again."""
    start_seconds: NotNegative = 0.0
    """For so long after the first window of a stream, tags need the settled thresholds."""


@raises(RecipeError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recipe:
    """One variant of one net.

    Raises:
        RecipeError: a value has the wrong type or range, or two values contradict each other.
    """

    name: str
    """The name of the bundle."""
    net: Annotated[Net, BeforeValidator(_net)]
    features: FeatureConfig
    window_frames: Count
    hop_frames: Count
    first_frames: int
    """Frames of the shortest provisional window."""
    fit: Fit
    padding: PastPadding = PastPadding.SILENCE
    task: Task = Task.TAG
    seed: int = 1
    tags: tuple[str, ...] = ()
    """The tags of mixtures; recordings bring their own."""
    pretrained: str = ""
    """What the net begins with: a run, a run folder, a bundle of one net, or a checkpoint of
    torchvision (see `pretrained`). An autoencoder's recipe is trained first if it has no run."""
    pretrained_part: str = ""
    """The only part of the net that takes these weights, such as `codec`; empty means all."""
    smoothing_seconds: float = 1.0
    min_on_seconds: float = 0.5
    min_off_seconds: float = 1.0
    recordings: Recordings = field(default_factory=Recordings)
    mixtures: Mixtures | None = None
    """If given, the training data is synthesised instead of read."""
    distil: Distil | None = None
    """If given, a student learns from teachers."""
    augment: Augment = field(default_factory=Augment)
    thresholds: Thresholds = field(default_factory=Thresholds)
    paper: str = ""
    """The citation of the paper; empty for our own recipes."""
    run: str = ""
    """Which of the paper's runs this is."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's test scores: roc_auc, pr_auc, f_macro …"""
    corpus: Literal["", "MTG-Jamendo", "MagnaTagATune"] = ""
    """The corpus that `data`, `licence`, `description` and `published` speak of. The card of a
    model of other data leaves them out, unless you have set them. Empty: they are of any data."""
    data: str = ""
    """Description of the training data for the card."""
    licence: str = ""
    """Of the weights. Yours to state; empty: the card says that nobody has stated it."""
    description: str = ""
    deviates: tuple[str, ...] = ()
    """Where it differs from the paper and from its authors' code, a sentence each."""

    @property
    def training_seed(self) -> int:
        """Seed of all that differs between trainings on the same data from the same beginning."""
        return self.seed + TRAINING_SEEDS * self.fit.draw

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for key, is_fine, expected in _recipe_rules(self):
            if not is_fine:
                raise ValueError(f"{key}: expected {expected}, got {_value(self, key)!r}")
        return self


@raises(RecipeError)
@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Ensemble:
    """Several recipes whose nets' scores are averaged in one bundle."""

    name: str
    members: tuple[str, ...]
    """Names of recipes or of their files; all must have the same front end."""
    paper: str = ""
    run: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    deviates: tuple[str, ...] = ()
    """Where it differs from the paper, besides what its members' recipes say."""

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if len(set(self.members)) != len(self.members) or len(self.members) < 2:
            raise ValueError(f"members: expected two or more, none twice, got {self.members!r}")
        return self


def _recipe_rules(recipe: Recipe) -> Iterator[tuple[str, object, str]]:
    """What must hold between the fields: key, whether it holds, what was expected."""
    augment, features = recipe.augment, recipe.features
    changes_power = augment.mix_share or augment.level_db or augment.colour_db
    yield "tags", len(set(recipe.tags)) == len(recipe.tags), "no name twice"
    yield "first_frames", 1 <= recipe.first_frames <= recipe.window_frames, "1 to window_frames"
    yield "fit.stages", recipe.fit.stages or recipe.net.name == POPULARITY, "at least one"
    gives_one = not (recipe.fit.per_tag or recipe.fit.snapshots)
    is_one = recipe.fit.trainings == 1 or gives_one
    yield "fit.trainings", is_one, "1 with fit.per_tag or fit.snapshots, which give several nets"
    has_mean = recipe.fit.snapshots == 0 or recipe.fit.swa_start > 0
    yield "fit.snapshots", has_mean, "0 without fit.swa_start"
    for i, stage in enumerate(recipe.fit.stages):
        before = recipe.fit.stages[i - 1].optimizer if i else ""
        is_same = not stage.keep_optimizer or stage.optimizer == before
        expected = "false unless the stage before has the same optimizer"
        yield f"fit.stages.{i}.keep_optimizer", is_same, expected
    is_ln = features.log is Log.LN
    expected = "'ln', which augment.mix_share, level_db and colour_db undo"
    yield "features.log", is_ln or not changes_power, expected
    has_variants = augment.audio_variants > 0 or not augment.degrades_audio
    expected = "at least 1 where codecs, noise, rooms or levels are set"
    yield "augment.audio_variants", has_variants, expected
    mixes_side = augment.mixup_alpha and recipe.recordings.side
    expected = "0 with recordings.side, whose values are not mixed"
    yield "augment.mixup_alpha", not mixes_side, expected
    is_silence = recipe.padding is PastPadding.SILENCE
    if recipe.mixtures is not None:
        yield "tags", recipe.tags, "at least one, for mixtures"
        yield "padding", is_silence, "'silence', as mixtures are made"
    if recipe.distil is not None:
        yield "padding", is_silence or recipe.distil.evidence, "'silence', as windows are made"
        yield "features.log", is_ln, "'ln', under which sounds are added"


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value

"""Facts about checkpoints that others have published.

Front ends, windows, sources, licences, and scores as published. `importer` turns checkpoints into
bundles.
"""

from dataclasses import dataclass
from typing import Any

from streamtag.audio.feature_config import FeatureConfig, Framing, Log, MelNorm, MelScale
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL

SOTA_MEL = FeatureConfig(
    sample_rate=16000,
    n_fft=512,
    hop=256,
    n_mels=96,
    f_max=8000.0,
    mel_scale=MelScale.HTK,
    mel_norm=MelNorm.NONE,
    log=Log.DB,
    framing=Framing.CENTERED,
)
"""The front end of sota-music-tagging-models: torchaudio's mel and decibels without top_db."""


@dataclass(frozen=True, slots=True)
class CheckpointKind:
    """A family of checkpoints."""

    name: str
    """As in `streamtag import KIND`."""
    net: str
    """Key of `nets.NETS`."""
    paper: str
    output: str
    """Name of the matrix with a row per tag."""
    features: FeatureConfig
    window_frames: int
    """Window of the training."""
    hop_frames: int
    """Our choice."""
    first_frames: int
    """Our choice: about 3 s."""
    min_off_seconds: float
    vocabularies: tuple[str, ...]
    """The vocabularies of the published checkpoints of this kind."""
    threshold_gain: float
    """On threshold = sqrt(gain · base rate): see `importer.thresholds`."""
    weights_licence: str


WON = "Won et al., Evaluation of CNN-based automatic music tagging models, SMC 2020"
MIT = (
    "MIT, Copyright (c) 2020 Music Technology Group, Universitat Pompeu Fabra, code developed by "
    "Minz Won (minzwon/sota-music-tagging-models)"
)


def _sota(net: str, output: str, window: int, hop: int, min_off: float) -> CheckpointKind:
    return CheckpointKind(
        name=f"sota-{net}",
        net=net,
        paper=WON,
        output=output,
        features=SOTA_MEL,
        window_frames=window,
        hop_frames=hop,
        first_frames=188,
        min_off_seconds=min_off,
        vocabularies=("mtat", "jamendo"),
        threshold_gain=0.5,
        weights_licence=MIT,
    )


_VGGISH = CheckpointKind(
    name="mtg-jamendo-vggish",
    net="vggish",
    paper="Bogdanov et al., The MTG-Jamendo dataset for automatic music tagging, 2019",
    output="dense.weight",
    features=JAMENDO_MEL,
    window_frames=1366,
    hop_frames=70,
    first_frames=140,
    min_off_seconds=3.0,
    vocabularies=("moodtheme",),
    threshold_gain=0.2,
    weights_licence="Apache-2.0 (MTG/mtg-jamendo-dataset)",
)

KINDS = {
    kind.name: kind
    for kind in (
        _VGGISH,
        _sota("fcn", "dense.weight", window=1813, hop=94, min_off=3.0),
        _sota("musicnn", "dense2.weight", window=188, hop=47, min_off=2.0),
        _sota("crnn", "dense.weight", window=1813, hop=94, min_off=3.0),
    )
}

AUDIO = {
    "moodtheme": (
        "MTG-Jamendo, mood/theme subset, split-0: 9,949 training tracks (Bogdanov et al. 2019), "
        "29.1 s from the middle of each",
        "Jamendo tracks under Creative Commons licences, many of them non-commercial or without "
        "derivatives; metadata CC BY-NC-SA 4.0",
    ),
    "jamendo": (
        "MTG-Jamendo, top 50 tags: 54,380 tracks in all (Bogdanov et al. 2019)",
        "Jamendo tracks under Creative Commons licences, many of them non-commercial or without "
        "derivatives; metadata CC BY-NC-SA 4.0",
    ),
    "mtat": (
        "MagnaTagATune: 25,863 clips of 29 s in all (Law et al. 2009)",
        "MagnaTagATune is CC BY-NC-SA 3.0: non-commercial",
    ),
}
"""Per vocabulary: the training data of the published nets, and the licence of that audio."""


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that is recognised by its weights.

    The figures are ours, from benchmarks/import_context.py on the clips that came with the
    checkpoints.
    """

    kind: str
    vocabulary: str
    scores: dict[str, Any]
    """Scores as published, not measured by us."""
    alone: float
    """Largest difference from the published probabilities if a window's audio is tagged alone."""
    context: tuple[float, float]
    """Mean and largest change of a probability if the window is part of a longer stream."""
    provisional: tuple[float, float] | None = None
    """Correlation of scores after 3 and 10 s of a window with those of the whole window."""


_BASELINE = {
    "what": "published, not measured by streamtag",
    "source": "MediaEval 2019 Emotion and Theme Recognition, VGG-ish baseline, official test set",
    "roc_auc_macro": 0.725821,
    "pr_auc_macro": 0.107734,
}
_STUDY = {
    "what": "published, not measured by streamtag",
    "source": f"{WON} (arXiv 2006.00751), table of results; the figures are not repeated here",
}

PUBLISHED = {
    "e7e7e2da09cb39b07015772f1c45b1b4329ed6ff5278fe60ce50f2c53097d464": Published(
        "mtg-jamendo-vggish", "moodtheme", _BASELINE, 1e-5, (3e-4, 0.008), (0.86, 0.93)
    ),
    "c46029ac8f9ab1437b0f14513b669ca49fb3f136b8cc252409f72dba0e4586f7": Published(
        "sota-fcn", "mtat", _STUDY, 1e-5, (2e-4, 0.003), (0.82, 0.93)
    ),
    "da7bdba459477a3c6cf614393689bde41b22a6630ef56766f44ce1571629d60b": Published(
        "sota-fcn", "jamendo", _STUDY, 2e-5, (1e-4, 0.002), (0.86, 0.95)
    ),
    "5c3f603d48f5f4f37a189b88da769ecbad88f825ee2aa311785ae08e6f5b439e": Published(
        "sota-musicnn", "mtat", _STUDY, 2e-4, (8e-4, 0.029)
    ),
    "213aef52ceb9781492c674fdfb762cbdedca6fe2be6ff16f5b59abde572a100b": Published(
        "sota-musicnn", "jamendo", _STUDY, 1e-4, (9e-4, 0.021)
    ),
    "9be04b8d3e3c5db7aad015b0c469859025b4321dde7c7a7e8e659f05219c9038": Published(
        "sota-crnn", "mtat", _STUDY, 1e-5, (3e-4, 0.014), (0.82, 0.91)
    ),
    "e0a82af4d7ff69bbe50ddfb36d370ba3879f3240be5c15e2ef417e3717d01ced": Published(
        "sota-crnn", "jamendo", _STUDY, 2e-5, (1e-4, 0.003), (0.88, 0.96)
    ),
}
"""The known checkpoints by `checkpoint.fingerprint`."""

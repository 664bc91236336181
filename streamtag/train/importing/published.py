"""Facts about checkpoints that others have published.

Front ends, windows, sources, licences, and scores as published. `importer` turns checkpoints into
bundles.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamtag.audio.feature_config import (
    FeatureConfig,
    Framing,
    Log,
    MelNorm,
    MelScale,
    WindowFunction,
)
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
    band: tuple[float, float] = (0.0, 1.0)
    """Mean and scale of all bands: the net is given (frame - mean) / scale."""


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

AUDIOSET_MEL = FeatureConfig(
    sample_rate=32000,
    n_fft=1024,
    win_length=800,
    hop=320,
    window=WindowFunction.HANN_SYMMETRIC,
    n_mels=128,
    f_max=15000.0,
    mel_scale=MelScale.KALDI,
    mel_norm=MelNorm.NONE,
    log_floor=0.0,
    log_offset=1e-5,
    preemphasis=0.97,
    framing=Framing.CENTERED,
)
"""The front end of EfficientAT and PaSST, in evaluation."""
_EFFICIENTAT = CheckpointKind(
    name="efficientat-mn",
    net="efficientat",
    paper="Schmid et al., Efficient large-scale audio tagging, ICASSP 2023",
    output="classifier.5.weight",
    features=AUDIOSET_MEL,
    window_frames=1000,
    hop_frames=100,
    first_frames=300,
    min_off_seconds=2.0,
    vocabularies=("audioset",),
    threshold_gain=0.5,
    weights_licence="MIT, Copyright (c) 2022 Florian Schmid (fschmid56/EfficientAT)",
    band=(-4.5, 5.0),
)

PONS_MEL = FeatureConfig(
    sample_rate=16000,
    n_fft=512,
    hop=256,
    n_mels=96,
    log=Log.LN1P,
    framing=Framing.CENTERED,
)
"""The front end of the package musicnn, but for the logarithm's base and a rounding to 16 bits."""
_PONS = CheckpointKind(
    name="msd-musicnn",
    net="pons-musicnn",
    paper="Pons and Serra, musicnn, LBD-ISMIR 2019",
    output="dense_2.weight",
    features=PONS_MEL,
    window_frames=187,
    hop_frames=47,
    first_frames=187,
    min_off_seconds=2.0,
    vocabularies=("msd",),
    threshold_gain=0.5,
    weights_licence="ISC, Copyright (c) 2019 Jordi Pons (jordipons/musicnn)",
    band=(0.0, math.log(10.0)),
)

KINDS = {
    kind.name: kind
    for kind in (
        _VGGISH,
        _EFFICIENTAT,
        _PONS,
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
    "audioset": (
        "AudioSet, two million clips of 10 s from YouTube (Gemmeke et al. 2017), with the answers "
        "of PaSST transformers to them; begun from ImageNet's weights",
        "AudioSet's labels are CC BY 4.0; its audio belongs to those who put it on YouTube",
    ),
    "msd": (
        "Million Song Dataset, previews with tags of Last.fm: 201,680 training tracks (Choi et al. "
        "2017)",
        "previews and Last.fm's tags are not openly licensed (for research, as their makers state)",
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
    provisional: Mapping[int, float] = field(default_factory=dict)
    """Correlation of scores after so many seconds of a window with those of the whole window."""


_BASELINE = {
    "what": "published, not measured by streamtag",
    "source": "MediaEval 2019 Emotion and Theme Recognition, VGG-ish baseline, official test set",
    "roc_auc_macro": 0.725821,
    "pr_auc_macro": 0.107734,
}
_AUDIOSET = {
    "what": "published, not measured by streamtag",
    "source": "EfficientAT, mn04_as, AudioSet's evaluation set",
    "pr_auc_macro": 0.432,
}
_MSD = {
    "what": "published, not measured by streamtag",
    "source": "musicnn 0.1.0, MSD_musicnn/experiment.result, Million Song Dataset's test set",
    "roc_auc_macro": 0.8802,
    "pr_auc_macro": 0.2891,
}
_STUDY = {
    "what": "published, not measured by streamtag",
    "source": f"{WON} (arXiv 2006.00751), table of results; the figures are not repeated here",
}

PUBLISHED = {
    "e7e7e2da09cb39b07015772f1c45b1b4329ed6ff5278fe60ce50f2c53097d464": Published(
        "mtg-jamendo-vggish", "moodtheme", _BASELINE, 1e-5, (3e-4, 0.008), {3: 0.86, 10: 0.93}
    ),
    "0feb19b2c94ce8abef74ad53fc25d4adb84e21bc41c0d96b1dbccfd6d93d56d0": Published(
        "efficientat-mn", "audioset", _AUDIOSET, 2e-6, (4e-5, 0.04), {3: 0.96, 5: 0.98}
    ),
    "ba616d3a28de1b7627a42c3b3322e929b6d84c2defdf9a586fabc1fb60762b80": Published(
        "msd-musicnn", "msd", _MSD, 6e-5, (8e-4, 0.04)
    ),
    "c46029ac8f9ab1437b0f14513b669ca49fb3f136b8cc252409f72dba0e4586f7": Published(
        "sota-fcn", "mtat", _STUDY, 1e-5, (2e-4, 0.003), {3: 0.82, 10: 0.93}
    ),
    "da7bdba459477a3c6cf614393689bde41b22a6630ef56766f44ce1571629d60b": Published(
        "sota-fcn", "jamendo", _STUDY, 2e-5, (1e-4, 0.002), {3: 0.86, 10: 0.95}
    ),
    "5c3f603d48f5f4f37a189b88da769ecbad88f825ee2aa311785ae08e6f5b439e": Published(
        "sota-musicnn", "mtat", _STUDY, 2e-4, (8e-4, 0.029)
    ),
    "213aef52ceb9781492c674fdfb762cbdedca6fe2be6ff16f5b59abde572a100b": Published(
        "sota-musicnn", "jamendo", _STUDY, 1e-4, (9e-4, 0.021)
    ),
    "9be04b8d3e3c5db7aad015b0c469859025b4321dde7c7a7e8e659f05219c9038": Published(
        "sota-crnn", "mtat", _STUDY, 1e-5, (3e-4, 0.014), {3: 0.82, 10: 0.91}
    ),
    "e0a82af4d7ff69bbe50ddfb36d370ba3879f3240be5c15e2ef417e3717d01ced": Published(
        "sota-crnn", "jamendo", _STUDY, 2e-5, (1e-4, 0.003), {3: 0.88, 10: 0.96}
    ),
}
"""The known checkpoints by `checkpoint.fingerprint`."""

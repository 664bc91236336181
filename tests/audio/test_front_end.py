"""Frames against an outside truth: float64 oracle, librosa, torchaudio, Essentia's own files."""

import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
from support import oracle
from support.paths import SHARED

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd, frames_of

WEIGHTS = SHARED / "data" / "weights"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no shared/data/weights beside us")

MTG_JAMENDO = FeatureConfig(
    sample_rate=12000, n_fft=512, hop=256, n_mels=96, window="hann_symmetric",
    mel_scale="essentia", log="db", log_multiplier=20, framing="centered", padding="zero",
    tail="ceil",
)  # fmt: skip
CHECKPOINTS = FeatureConfig(
    sample_rate=16000, n_fft=512, hop=256, n_mels=96, mel_scale="htk", mel_norm="none", log="db",
    framing="centered",
)  # fmt: skip
CP_JKU = FeatureConfig(
    sample_rate=44100, n_fft=2048, hop=512, n_mels=256, order="log_mel", weighting="a", log="db",
    top_db=80, framing="centered",
)  # fmt: skip
EFFICIENTAT = FeatureConfig(
    sample_rate=32000, n_fft=1024, win_length=800, hop=320, window="hann_symmetric", n_mels=128,
    f_max=15000.0, mel_scale="kaldi", mel_norm="none", log_floor=0.0, log_offset=1e-5,
    preemphasis=0.97, framing="centered",
)  # fmt: skip
FRONT_ENDS = {
    "A": FeatureConfig(sample_rate=22050, n_fft=2048, hop=512, n_mels=128),
    "B": FeatureConfig(sample_rate=16000, n_fft=512, hop=160, n_mels=96),
    "mtg-jamendo": MTG_JAMENDO,
    "checkpoints": CHECKPOINTS,
    "cp-jku": CP_JKU,
    "efficientat": EFFICIENTAT,
    "cp-jku-25": FeatureConfig(**(CP_JKU.to_dict() | {"hop": 1536})),
    "vq-vae": FeatureConfig(
        sample_rate=22050, n_fft=2048, hop=512, n_mels=128, log="ln1p", framing="centered"
    ),
    "polimi-cnn": FeatureConfig(
        sample_rate=16000, n_fft=2048, hop=1792, n_mels=128, log="db", top_db=80, gain=32768,
        framing="centered",
    ),
    "polimi-raw": FeatureConfig(kind="raw", sample_rate=16000),
    "magnitude": FeatureConfig(spectrum="magnitude", log="none", win_length=400, n_mels=40),
    "offset": FeatureConfig(log_floor=0, log_offset=1e-6, f_min=60, f_max=7800, mel_norm="none"),
    "sparse hops": FeatureConfig(n_fft=256, hop=400, framing="centered", padding="zero"),
    "empty triangles": FeatureConfig(n_fft=64, hop=20, n_mels=200),
}  # fmt: skip
INSTRUCTION_SETS = _core.instruction_sets()


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STREAMTAG_ISA", request.param)
    assert _core.isa() == request.param
    return str(request.param)


def signals(rate: int) -> dict[str, np.ndarray]:
    """Two seconds each of everything that has broken a front end before."""
    rng = np.random.default_rng(3)
    n = 2 * rate
    t = np.arange(n) / rate
    tones = sum(a * np.sin(2 * np.pi * f * t) for a, f in ((0.3, 440), (0.1, 1234.5), (0.02, 3333)))
    music = sum(
        0.2 / k * np.sin(2 * np.pi * 110 * k * t + k) * np.exp(-((t * 4) % 1) * k)
        for k in range(1, 20)
    )
    made = {
        "music": music + 0.001 * rng.standard_normal(n),
        "noise": 0.1 * rng.standard_normal(n),
        "tones": tones,
        "tone over a faint hiss": 0.4 * np.sin(2 * np.pi * 1000 * t)
        + 1e-5 * rng.standard_normal(n),
        "silence": np.zeros(n),
        "clipping": np.clip(3 * np.sin(2 * np.pi * 300 * t) + rng.standard_normal(n), -1, 1),
        "denormals": 1e-40 * rng.standard_normal(n),
        "clicks": (np.arange(n) % 5000 == 0).astype(float),
    }
    return {name: signal.astype(np.float32) for name, signal in made.items()}


def sweeps_and_chords(rate: int) -> dict[str, np.ndarray]:
    """Chirps through the whole band, and random tones over hiss of a random level."""
    made = {}
    for seconds in (0.5, 2.0):
        t = np.arange(int(seconds * rate)) / rate
        for amplitude in (0.1, 0.9):
            phase = np.pi * rate / 2 / seconds * t**2
            made[f"chirp of {seconds} s, {amplitude}"] = amplitude * np.sin(phase)
    t = np.arange(rate // 2) / rate
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count = rng.integers(1, 6)
        amplitudes = 10 ** rng.uniform(-2, -0.3, (count, 1))
        hertz = np.exp(rng.uniform(np.log(50), np.log(rate / 2), (count, 1)))
        tones = amplitudes * np.sin(2 * np.pi * (hertz * t + rng.uniform(0, 1, (count, 1))))
        hiss = 10 ** rng.uniform(-6, -2) * rng.standard_normal(len(t))
        made[f"chord {seed}"] = tones.sum(axis=0) + hiss
    return {name: signal.astype(np.float32) for name, signal in made.items()}


def natural(values: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Values on the natural-log scale, so that one tolerance fits all."""
    return values * np.log(10) / config.log_multiplier if config.log == "db" else values


def audible(truth: np.ndarray) -> np.ndarray:
    """Where a natural-log value lies within 80 dB of its frame's peak."""
    return truth >= truth.max(axis=1, keepdims=True) - 8 * np.log(10)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_frames_equal_the_float64_oracle(name: str, isa: str) -> None:
    config = FRONT_ENDS[name]
    for label, samples in signals(config.sample_rate).items():
        got, truth = frames_of(samples, config), oracle.frames(samples, config)
        assert got.shape == truth.shape == (config.n_frames(len(samples)), config.width)
        assert got.dtype == np.float32
        if config.log == "none":
            np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-7)
            continue
        got, truth = natural(got, config), natural(truth, config)
        error = np.abs(got - truth)[audible(truth)]
        assert error.max() < 2e-4, label
        assert np.sqrt(np.mean(error**2)) < 1e-5, label


@pytest.mark.parametrize("n_fft", [2**k for k in range(5, 15)])
def test_every_fft_size(n_fft: int, isa: str) -> None:
    samples = signals(16000)["noise"][: 3 * n_fft]
    config = FeatureConfig(n_fft=n_fft, hop=n_fft // 3, n_mels=min(96, n_fft // 4), log="none")
    np.testing.assert_allclose(
        frames_of(samples, config), oracle.frames(samples, config), rtol=2e-5
    )


def test_a_huge_sample_gives_finite_frames() -> None:
    samples = signals(16000)["noise"].copy()
    samples[3000] = 3e38
    for config in FRONT_ENDS.values():
        assert np.isfinite(frames_of(samples, config)).all()


def test_frames_do_not_depend_on_the_threads_denormal_mode() -> None:
    torch = pytest.importorskip("torch")
    samples = signals(16000)["noise"] * np.float32(1e-15)
    config = FeatureConfig(log="none")
    plain = frames_of(samples, config)
    torch.set_flush_denormal(True)
    try:
        flushed = frames_of(samples, config)
    finally:
        torch.set_flush_denormal(False)
    assert plain.max() > 0
    np.testing.assert_array_equal(flushed, plain)


def imported_torchaudio() -> Any:
    """torchaudio's Python part: its wheel may hold an extension that this torch cannot load."""
    pytest.importorskip("torch")
    stand_in = types.ModuleType("torchaudio._extension")
    stand_in.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=lambda function: function,
    )
    sys.modules.setdefault("torchaudio._extension", stand_in)
    return pytest.importorskip("torchaudio")


@pytest.mark.parametrize("name", ["A", "B", "checkpoints"])
def test_no_further_from_the_truth_than_torchaudio(name: str, isa: str) -> None:
    import torch

    transforms = imported_torchaudio().transforms
    config = FeatureConfig(**(FRONT_ENDS[name].to_dict() | {"framing": "centered", "log": "ln"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = transforms.MelSpectrogram(
            config.sample_rate, config.n_fft, hop_length=config.hop, n_mels=config.n_mels,
            norm=None if config.mel_norm == "none" else "slaney", mel_scale=str(config.mel_scale),
        )  # fmt: skip
    made = signals(config.sample_rate) | sweeps_and_chords(config.sample_rate)
    for label, samples in made.items():
        truth = oracle.frames(samples, config)
        where = audible(truth)
        mels = peer(torch.from_numpy(samples)).clamp_min(1e-10).log().numpy().T
        theirs = (mels - truth)[where]
        ours = (frames_of(samples, config) - truth)[where]
        assert np.sqrt(np.mean(ours**2)) <= np.sqrt(np.mean(theirs**2)) + 1e-7, label
        # Frames without a faint mel stay in single precision; there a value may be the unluckier
        # one by rounding alone, which goes up to 1e-4. All others are in double precision.
        assert np.abs(ours).max() <= max(1e-4, np.abs(theirs).max()), label
        assert np.abs(ours).max() < 2e-4, label


def test_librosa_defaults() -> None:
    librosa = pytest.importorskip("librosa")
    samples = signals(22050)["music"]
    config = FeatureConfig(
        sample_rate=22050, n_fft=2048, hop=512, n_mels=128, log="db", framing="centered",
        padding="zero",
    )  # fmt: skip
    mels = librosa.feature.melspectrogram(y=samples, sr=22050)
    expected = librosa.power_to_db(mels, top_db=None).T
    np.testing.assert_allclose(frames_of(samples, config), expected, atol=2e-3)


def test_librosa_perceptual_weighting_with_the_whole_clips_peak() -> None:
    librosa = pytest.importorskip("librosa")
    samples = np.concatenate([signals(44100)["music"] * 1e-4, signals(44100)["music"]])
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=512, pad_mode="reflect")) ** 2
    with np.errstate(divide="ignore"):  # A-weighting at 0 Hz
        bins = librosa.perceptual_weighting(spectrum, librosa.fft_frequencies(sr=44100, n_fft=2048))
    matrix = librosa.filters.mel(sr=44100, n_fft=2048, n_mels=256)
    first, second = FrontEnd(CP_JKU, 1000), FrontEnd(CP_JKU, 1000)
    first.push(samples)
    first.close()
    second.peak = first.peak
    second.push(samples)
    second.close()
    got = second.ring.copy(0, second.ring.end)
    np.testing.assert_allclose(got, (matrix @ bins).T, atol=2e-3)
    unseeded = first.ring.copy(0, first.ring.end)
    assert np.abs(unseeded - got).max() > 1


@needs_weights
@pytest.mark.parametrize("clip", ["hungarian_dance", "vibe_ace"])
def test_essentias_own_mels_of_the_mtg_jamendo_files(clip: str) -> None:
    with np.load(WEIGHTS / "mtg-jamendo" / "reference.npz") as reference:
        samples, expected = reference[f"{clip}|audio12k"], reference[f"{clip}|mel"].T
    got = frames_of(samples, MTG_JAMENDO)
    assert got.shape == expected.shape == (1366, 96)
    assert np.abs(got - expected)[expected > -100].max() < 0.01
    assert got.min() >= -200


@needs_weights
@pytest.mark.parametrize("clip", ["hungarian_dance", "vibe_ace", "speech"])
def test_the_checkpoints_mels(clip: str) -> None:
    samples = np.load(WEIGHTS / "sota" / f"{clip}_16k.npy")[:48000].astype(np.float32)
    with np.load(WEIGHTS / "sota" / "reference.npz") as reference:
        expected = reference[f"{clip}|mel_db_win0"].T
    got = frames_of(samples, CHECKPOINTS)
    assert got.shape == expected.shape
    loud = expected > expected.max(axis=1, keepdims=True) - 60
    assert np.abs(got - expected)[loud].max() < 1e-2  # their bank has been made in float32
    assert np.abs(got - expected).max() < 0.1  # in bands that hold nothing but rounding


@needs_weights
def test_the_checkpoints_own_filter_bank_and_window() -> None:
    torch = pytest.importorskip("torch")
    state = torch.load(WEIGHTS / "sota" / "mtat_musicnn.pth", map_location="cpu", weights_only=True)
    bank = state["spec.mel_scale.fb"].double().numpy()
    window = state["spec.spectrogram.window"].double().numpy()
    samples = signals(16000)["noise"]
    cut = oracle.framed(samples.astype(np.float64), CHECKPOINTS)
    power = np.abs(np.fft.rfft(cut * window, axis=1)) ** 2
    expected = 10 * np.log10(np.maximum(power @ bank, 1e-10))
    np.testing.assert_allclose(frames_of(samples, CHECKPOINTS), expected, atol=5e-3)


@needs_weights
def test_efficientats_own_mels() -> None:
    with np.load(WEIGHTS / "efficientat" / "reference.npz") as reference:
        samples = reference["on_the_run|audio32k"][:32000].astype(np.float32) / 32768
        expected = reference["on_the_run|mel_1s"].T
    got = (frames_of(samples, EFFICIENTAT) + 4.5) / 5
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_top_db_follows_the_running_maximum() -> None:
    config = FeatureConfig(log="db", top_db=40)
    loud = signals(16000)["music"]
    samples = np.concatenate([loud * np.float32(1e-3), loud, loud * np.float32(1e-3)])
    got = frames_of(samples, config)
    peak = np.maximum.accumulate(got.max(axis=1))
    assert (got >= peak[:, None] - 40).all()
    free = frames_of(samples, FeatureConfig(log="db"))
    np.testing.assert_array_equal(got, np.maximum(free, peak[:, None] - np.float32(40)))


def test_raw_frames_are_the_samples_times_the_gain() -> None:
    samples = signals(16000)["denormals"]
    config = FeatureConfig(kind="raw")
    np.testing.assert_array_equal(frames_of(samples, config)[:, 0], samples)
    config = FeatureConfig(kind="raw", gain=32768)
    samples = signals(16000)["noise"]
    np.testing.assert_array_equal(frames_of(samples, config)[:, 0], samples * np.float32(32768))

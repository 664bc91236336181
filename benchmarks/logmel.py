"""The front end and other libraries on one thread: interleaved runs, medians.

A is 22.05 kHz, FFT 2048, hop 512, 128 mels; B is 16 kHz, 512, 160, 96. All figures are through
Python, on 20 s of noise and tones. `torch-rfft` is only the real FFT of frames that were cut
beforehand, 64 at a time (MKL where torch has it): no window, power, mels or logarithm.
"""

# ruff: noqa: E402 - NumPy and torch read the variables when they are imported.
import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import rows
import torch

from streamtag import _core
from streamtag.audio.feature_config import FeatureConfig
from streamtag.audio.front_end import FrontEnd, frames_of, push_many

SECONDS = 20
STREAMS = 64
SETTINGS = {
    "A": FeatureConfig(sample_rate=22050, n_fft=2048, hop=512, n_mels=128),
    "B": FeatureConfig(sample_rate=16000, n_fft=512, hop=160, n_mels=96),
}
Contenders = dict[str, tuple[Callable[[], object], int]]
"""A function by name, and the number of frames that one call computes."""


def signal(rate: int) -> np.ndarray:
    """Noise and three tones, (SECONDS * rate,) float32."""
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * rate) / rate
    tones = sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 1000.0, 5000.0))
    return (0.05 * rng.standard_normal(len(t)) + tones).astype(np.float32)


def blocks_of(samples: np.ndarray, size: int) -> list[np.ndarray]:
    """Whole blocks only."""
    return [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]


def ours(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """This package: the whole signal, blocks, single hops, and many streams per call."""
    frames = config.n_frames(len(samples))
    front_end = FrontEnd(config, 256)
    block = config.sample_rate // 10

    def stream(blocks: list[np.ndarray]) -> Callable[[], object]:
        def run() -> None:
            front_end.reset()
            for samples in blocks:
                front_end.push(samples)

        return run

    front_ends = [FrontEnd(config, 256) for _ in range(STREAMS)]
    rounds = 8
    turns = [
        [samples[(i + s) * block : (i + s + 1) * block] for s in range(STREAMS)]
        for i in range(rounds)
    ]

    def many() -> None:
        for one in front_ends:
            one.reset()
        for turn in turns:
            push_many(front_ends, turn)

    return {
        "ours/bulk": (lambda: frames_of(samples, config), frames),
        "ours/100ms": (stream(blocks_of(samples, block)), frames),
        "ours/hop": (stream(blocks_of(samples, config.hop)), frames),
        "ours/64streams": (many, STREAMS * config.n_frames(rounds * block)),
    }


def torch_rfft(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """The FFT of every frame alone."""
    cut = torch.from_numpy(samples).unfold(0, config.n_fft, config.hop).contiguous()
    batches = cut.split(64)

    def run() -> None:
        for batch in batches:
            torch.fft.rfft(batch)

    return {"torch-rfft": (run, len(cut))}


def torchaudio_bulk(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """Mel spectrogram and logarithm."""
    stub = types.ModuleType("torchaudio._extension")  # its wheel may not match this torch
    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=lambda function: function,
    )
    sys.modules.setdefault("torchaudio._extension", stub)
    transforms = importlib.import_module("torchaudio").transforms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mel = transforms.MelSpectrogram(
            config.sample_rate, config.n_fft, hop_length=config.hop, n_mels=config.n_mels,
            norm="slaney", mel_scale="slaney", center=False,
        )  # fmt: skip
    wave = torch.from_numpy(samples)
    run = torch.inference_mode()(lambda: mel(wave).clamp_min(1e-10).log())
    return {"torchaudio/bulk": (run, config.n_frames(len(samples)))}


def librosa_bulk(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """Mel spectrogram and logarithm."""
    feature = importlib.import_module("librosa").feature

    def run() -> object:
        mel = feature.melspectrogram(
            y=samples, sr=config.sample_rate, n_fft=config.n_fft, hop_length=config.hop,
            n_mels=config.n_mels, center=False,
        )  # fmt: skip
        return np.log(np.maximum(mel, 1e-10))

    return {"librosa/bulk": (run, config.n_frames(len(samples)))}


def kaldi_stream(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """kaldi-native-fbank in blocks of 100 ms, each frame read. Its mel scale differs."""
    kaldi: Any = importlib.import_module("kaldi_native_fbank")
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.frame_length_ms = 1000 * config.n_fft / config.sample_rate
    options.frame_opts.frame_shift_ms = 1000 * config.hop / config.sample_rate
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = config.n_mels
    blocks = [block.tolist() for block in blocks_of(samples, config.sample_rate // 10)]

    def run() -> int:
        bank = kaldi.OnlineFbank(options)
        done = 0
        for block in blocks:
            bank.accept_waveform(config.sample_rate, block)
            while done < bank.num_frames_ready:
                bank.get_frame(done)
                done += 1
        return done

    return {"kaldi/100ms": (run, run())}


PEERS = (torch_rfft, torchaudio_bulk, librosa_bulk, kaldi_stream)


def contenders(config: FeatureConfig, samples: np.ndarray) -> Contenders:
    """Ours and every peer that is installed."""
    found = ours(config, samples)
    for peer in PEERS:
        try:
            found |= peer(config, samples)
        except (ImportError, OSError) as error:
            print(f"left out: {peer.__name__}: {error}")
    return found


def measure(config: FeatureConfig, repeats: int) -> dict[str, float]:
    """µs per frame of every contender."""
    them = contenders(config, signal(config.sample_rate))
    medians = rows.interleaved_medians({name: run for name, (run, _) in them.items()}, repeats)
    return {name: 1e6 * medians[name] / frames for name, (_, frames) in them.items()}


def report(setting: str, config: FeatureConfig, micros: dict[str, float]) -> None:
    """Ratios first, then the figures."""
    mine = [name for name in micros if name.startswith("ours/")]
    print(f"\n{setting}: times faster than ...")
    for peer in (name for name in micros if name not in mine):
        ratios = (
            f"{name.removeprefix('ours/')} {micros[peer] / micros[name]:.2f}" for name in mine
        )
        print(f"  {peer:<16} {', '.join(ratios)}")
    for name, value in micros.items():
        print(
            f"  {name:<16} {value:8.3f} µs/frame {1e6 / value / config.frame_rate:8.0f} x real time"
        )


def main() -> None:
    """Measures both settings."""
    parser = rows.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"instruction set {_core.isa()}, torch {torch.__version__}")
    figures = []
    for setting, config in SETTINGS.items():
        micros = measure(config, arguments.repeats)
        report(setting, config, micros)
        figures += [rows.Row(f"{setting}/{n}", v, "us/frame") for n, v in micros.items()]
    rows.write(figures, arguments.json)


if __name__ == "__main__":
    main()

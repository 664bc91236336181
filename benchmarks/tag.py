"""`streamtag tag` of one recording and of ten: seconds of audio per second of CPU and of time.

    python benchmarks/tag.py [--model models/x.pt …] [--minutes 30] [--repeats 3] [--json FILE]

The recordings are MP3s of 128 kbit/s, 44.1 kHz, stereo: one of half an hour, and ten of three
minutes. Each contender is a command in a process of its own. CPU time is that of the process and
all its decoders, time is from start to end; so the start of Python and torch is in both. Contenders
alternate, and the median counts. Other work on the machine makes all of them slower.

- ours: `streamtag tag`, as it is, and with `OMP_NUM_THREADS=1`.
- plain: ffmpeg decodes, torchaudio resamples and makes log-mel frames, and the TorchScript model
  gets the windows of a recording in batches of 64; one recording after the other, with the threads
  that torch takes by default, and with one.
- decoding: ffmpeg alone, as anyone would call it, and an import of torch.

`after_start` is without the start, which is measured with a recording of a second.

Without `--model` there are two: `general-1`, and the recipe `streaming` with fresh weights.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rows import Row, parser, write

from streamtag.sources.ffmpeg import ffmpeg_path

RATE, PARTS = 44100, 10
BATCH = 64
QUIET = ["-v", "error", "-nostdin"]
ONE = {"OMP_NUM_THREADS": "1"}


class Cost(NamedTuple):
    """What a command took."""

    cpu: float
    """Seconds of CPU, of the process and its children."""
    wall: float
    """Seconds."""


def recordings(folder: Path, minutes: float) -> list[Path]:
    """One MP3 of a second, one of so many minutes, and ten that last as long together."""
    rng, t = np.random.default_rng(0), np.arange(60 * RATE) / RATE
    left, right = (
        0.1 * sum(np.sin(2 * np.pi * f * t) * (np.sin(f * t / 90) > 0) for f in pitches)
        + 0.01 * rng.standard_normal(len(t))
        for pitches in ((110, 440, 1760, 5000), (220, 330, 2500, 6000))
    )
    minute = (np.stack([left, right], axis=1) * 32767).astype("<i2").tobytes()
    lengths = {"second": 1 / 60, "whole": minutes}
    lengths |= {f"part{i}": minutes / PARTS for i in range(PARTS)}
    made = [folder / f"{name}.mp3" for name in lengths]
    for path, length in zip(made, lengths.values(), strict=True):
        audio = (minute * (int(length) + 1))[: 4 * round(length * 60 * RATE)]
        form = ["-f", "s16le", "-ar", str(RATE), "-ac", "2", "-i", "-", "-b:a", "128k"]
        subprocess.run([ffmpeg_path(), *QUIET, *form, str(path)], input=audio, check=True)
    return made


def cost(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env=os.environ | (environment or {})
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, wall)


@cache
def loaded(bundle: Path) -> Any:
    """A TorchScript model, once in each process."""
    import torch

    return torch.jit.load(str(bundle)).eval()


def plain(bundle: Path, files: Sequence[Path]) -> None:
    """The plain loop over files."""
    import torch

    from streamtag.model.bundle import read_card
    from streamtag.train.exporting.torchaudio_loader import torchaudio

    card = read_card(bundle)
    features, model = card.features, loaded(bundle)
    transforms = torchaudio().transforms
    resample = transforms.Resample(RATE, features.sample_rate)
    to_mel = transforms.MelSpectrogram(
        features.sample_rate, features.n_fft, hop_length=features.hop, n_mels=features.n_mels,
        center=False,
    )  # fmt: skip
    sink = ["-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"]
    with torch.inference_mode():
        for file in files:
            command = [ffmpeg_path(), *QUIET, "-i", str(file), *sink]
            data = subprocess.run(command, check=True, capture_output=True).stdout
            samples = resample(torch.from_numpy(np.frombuffer(data, "<f4").copy()))
            frames = torch.log(to_mel(samples) + 1e-10).T
            while len(frames) < card.window_frames:  # a short recording fills a window
                frames = torch.cat([frames, frames])
            windows = frames.unfold(0, card.window_frames, card.hop_frames).transpose(1, 2)
            for i in range(0, len(windows), BATCH):
                print(model(windows[i : i + BATCH].contiguous()).tolist())


def medians(contenders: Mapping[str, Callable[[], Cost]], repeats: int) -> dict[str, Cost]:
    """The median costs; contenders alternate."""
    found: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            found[name].append(run())
    return {
        name: Cost(*map(statistics.median, zip(*costs, strict=True)))
        for name, costs in found.items()
    }


def measure(bundle: Path, files: Sequence[Path], minutes: float, repeats: int) -> list[Row]:
    """All rows of one bundle."""
    second, name = [sys.executable, "-m", "streamtag", "tag", str(files[0])], bundle.stem
    start = medians({"": lambda: cost([*second, "-m", str(bundle)])}, repeats)[""].cpu
    print(f"{name}: start {start:.2f} s of CPU", flush=True)
    rows = [Row(f"tag/start_cpu/{name}", start, "s")]
    for label, some in (("one", files[1:2]), ("ten", files[2:])):
        words = [str(path) for path in some]
        ours = [sys.executable, "-m", "streamtag", "tag", *words, "-m", str(bundle), "-f", "csv"]
        loop = [sys.executable, __file__, "--plain", str(bundle), *words]
        found = medians(
            {
                "": lambda ours=ours: cost(ours),
                "one_thread/": lambda ours=ours: cost(ours, ONE),
                "plain/": lambda loop=loop: cost(loop),
                "plain/one_thread/": lambda loop=loop: cost(loop, ONE),
            },
            repeats,
        )
        for who, took in found.items():
            cpu, wall = 60 * minutes / took.cpu, 60 * minutes / took.wall
            print(
                f"{name}, {label}: {who or 'streamtag/':18} {cpu:5.0f} s of audio per s of "
                f"CPU, {wall:5.0f} per s",
                flush=True,
            )
            rows.append(Row(f"tag/{label}/{who}audio_per_cpu/{name}", cpu, "s/s"))
            rows.append(Row(f"tag/{label}/{who}audio_per_time/{name}", wall, "s/s"))
        after = 60 * minutes / max(1e-3, found[""].cpu - start)
        rows.append(Row(f"tag/{label}/audio_per_cpu_after_start/{name}", after, "s/s"))
        best = min(found["plain/"].cpu, found["plain/one_thread/"].cpu)
        rows.append(Row(f"tag/{label}/plain_over_ours/{name}", best / found[""].cpu, "ratio"))
        slower = found[""].wall / found["one_thread/"].wall
        rows.append(Row(f"tag/{label}/default_over_one_thread/{name}", slower, "ratio"))
    return rows


def floor(file: Path, minutes: float, repeats: int) -> list[Row]:
    """What nobody avoids: decoding with ffmpeg, and the start of torch."""
    decode = [
        ffmpeg_path(),
        *QUIET,
        "-threads",
        "1",
        "-i",
        str(file),
        "-f",
        "f32le",
        "-ac",
        "1",
        "-",
    ]
    found = medians(
        {
            "decoding": lambda: cost(decode),
            "torch": lambda: cost([sys.executable, "-c", "import torch"]),
        },
        repeats,
    )
    decoded = 60 * minutes / found["decoding"].cpu
    print(
        f"ffmpeg alone: {decoded:.0f} s of audio per s of CPU; "
        f"import torch: {found['torch'].cpu:.2f} s"
    )
    return [
        Row("tag/decoding_alone/audio_per_cpu", decoded, "s/s"),
        Row("tag/import_torch", found["torch"].cpu, "s"),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, action="append", help="these bundles")
    arguments.add_argument("--minutes", type=float, default=30.0, help="of audio")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--plain", type=Path, help="run the plain loop with this bundle")
    arguments.add_argument("files", type=Path, nargs="*")
    options = arguments.parse_args()
    if options.plain:
        plain(options.plain, options.files)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = recordings(folder, options.minutes)
        models = options.model
        if not models:
            from fresh_bundle import GENERAL, fresh_streaming_bundle

            models = [fresh_streaming_bundle(folder, "streaming-small"), GENERAL]
        rows = floor(files[1], options.minutes, options.repeats)
        for path in models:
            rows += measure(path.resolve(), files, options.minutes, options.repeats)
    write(rows, options.json)


if __name__ == "__main__":
    main()

"""What the rings of clips cost: memory, and CPU time beside the level of the same audio.

    python benchmarks/clips.py [--streams 500] [--seconds 60] [--rate 16000] [--json FILE]

Every stream has 44.1 kHz noise for a little longer than its ring, through the same C++ as in the
engine, with no front end. So the conversion of the rate counts in full; with a model of the same
rate it costs nothing.

- clips/ring_mb_500: memory of 500 rings that are full, in MB (growth of the resident set).
- clips/ring_share_of_core_500: CPU seconds per second of audio of 500 streams, less those without.
"""

import math
import time
from pathlib import Path

import numpy as np
from rows import Row, parser, write

from streamtag import _core
from streamtag.audio.level import LevelMeter, LevelSettings

RATE = 44100


def resident_bytes() -> int:
    """The memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def stream() -> _core.StreamAudio:
    return _core.StreamAudio(RATE, 0, LevelMeter(RATE, 0, LevelSettings()), None)


def play(streams: list[_core.StreamAudio], seconds: int) -> float:
    """CPU seconds for so many seconds of noise in each stream."""
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    began = time.process_time()
    for second in range(seconds):
        for one in streams:
            one.append(second * RATE, noise, None)
            more: list[int] = [0]
            _core.allow([one], math.inf)
            while more:
                *_, more = _core.advance([one])
    return time.process_time() - began


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--streams", type=int, default=500)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--rate", type=int, default=16000)
    chosen = options.parse_args()
    plain = [stream() for _ in range(chosen.streams)]
    without = play(plain, 5) / 5
    kept = [stream() for _ in range(chosen.streams)]
    play(kept, 1)
    before = resident_bytes()
    kept = [stream() for _ in range(chosen.streams)]
    for one in kept:
        one.keep(_core.AudioRing(chosen.rate, chosen.seconds * chosen.rate))
    spent = play(kept, chosen.seconds + 1) / (chosen.seconds + 1)
    per_stream = (resident_bytes() - before) / chosen.streams
    rows = [
        Row("clips/ring_mb_500", round(per_stream * 500 / 1e6, 1), "MB"),
        Row("clips/ring_share_of_core_500", round((spent - without) * 500 / chosen.streams, 3), ""),
    ]
    for row in rows:
        print(f"{row.name}: {row.value} {row.unit}")
    write(rows, chosen.json)


if __name__ == "__main__":
    main()

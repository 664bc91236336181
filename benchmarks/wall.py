"""The wall's memory: eight hours of events, played in ten minutes to a page in a browser.

    python benchmarks/wall.py [--hours 8] [--minutes 10] [--theme constellation] [--json FILE]

The events are those of a station: two scores and one mood a second, songs of four minutes with
titles and other tags, tags that come and go within them, a silence every half hour, a lost source
every two hours. The page's heap is measured after a garbage collection; it fails if it grows by
more than 500 kB between the first eighth of the time and the end, or if elements are left behind.
"""

import sys
import tempfile
import time
from pathlib import Path

from rows import Row, parser, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.wall import Stage, browsing, wait_until
from support.web_server import serving

MAX_GROWTH = 500_000
SONG = 240
"""Length of a song in seconds."""
MOODS = ("calm", "energetic", "dark", "happy", "tender", "party")
GENRES = ("ambient", "techno", "classical", "pop", "rock", "jazz")
INSTRUMENTS = ("piano", "drums", "strings", "guitar", "synth", "violin")


def play(stage: Stage, second: int) -> None:
    """What the feed says in one second."""
    song, within = divmod(second, SONG)
    if second % 7200 == 5400:
        stage.lose("room")
        stage.up("room")
    if second % 1800 == 900:
        stage.silence("room")
        stage.sound("room")
    if within == 0:
        stage.title("room", f"Artist {song} – Song {song}")
    tags = {"music": 0.99, MOODS[song % 6]: 0.9, GENRES[song // 2 % 6]: 0.95}
    if within // 9 % 2:  # an instrument that comes and goes
        tags[INSTRUMENTS[(song + within // 30) % 6]] = 0.8
    mood = (((song * 7) % 13 - 6) / 8, ((song * 5) % 11 - 5) / 7, 0.3 + 0.5 * (within % 60) / 60)
    stage.play("room", mood, tags)
    stage.play("room", mood, tags)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--hours", type=float, default=8.0)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--theme", default="constellation")
    chosen = options.parse_args()
    seconds, speed = int(chosen.hours * 3600), chosen.hours * 60 / chosen.minutes
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        path = Path(folder) / "journal.db"
        stage = Stage(path)
        stage.up("room")
        play(stage, 1)
        with serving(Path(folder), stage, path) as server:
            page = browser.new_page(viewport={"width": 480, "height": 270})
            page.goto(f"{server.url}/wall/room?theme={chosen.theme}")
            wait_until(page, "document.body.dataset.scene === 'music'")
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            sizes: list[float] = []
            begin = time.monotonic()
            for second in range(seconds):
                play(stage, second)
                if (second + 1) % max(1, seconds // 16) == 0:
                    session.send("HeapProfiler.collectGarbage")
                    sizes.append(session.send("Runtime.getHeapUsage")["usedSize"])
                    print(
                        f"{(second + 1) / 3600:5.1f} h  heap {sizes[-1] / 1e6:.2f} MB", flush=True
                    )
                time.sleep(max(0.0, begin + (second + 1) / speed - time.monotonic()))
            took = time.monotonic() - begin
            found = session.send("Performance.getMetrics")["metrics"]
            metrics = {metric["name"]: metric["value"] for metric in found}
        stage.close()
    growth = sizes[-1] - sizes[1]
    print(
        f"{chosen.hours:g} h of events in {took:.0f} s; {metrics['Nodes']:.0f} nodes, "
        f"{metrics['JSEventListeners']:.0f} listeners; growth {growth / 1000:+.0f} kB"
    )
    rows = [Row("wall/heap", sizes[-1], "bytes"), Row("wall/heap_growth", growth, "bytes")]
    write(rows, chosen.json)
    if growth > MAX_GROWTH or metrics["Nodes"] > 500:
        sys.exit("the page's memory grows")


if __name__ == "__main__":
    main()

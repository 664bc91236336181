"""The desk's server: many streams, many browsers.

    python benchmarks/web.py [--streams 500] [--browsers 20] [--seconds 20] [--json FILE]

Each stream publishes two scores, two levels and one mood a second, and switches a tag every three
seconds. Each browser has the desk open, asks for the last hours every 10 s, and looks at the
taggram of a stream.
Rows: the number of browsers, the share of a core that the server takes (CPU time of its process),
and the 99th percentile of the time from publishing an event to its arrival at a browser. Then, with
the same streams, Debian's Chromium has the desk open: the share of a core that the page takes (CPU
time of all tasks of its main thread), and the 99th percentile of the time from publishing a change
of state to the change in the page.
"""

import asyncio
import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rows import Row, parser, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.wall import TAGGER, Stage, browsing, wait_until
from support.web_server import RATE, Server, serving
from websockets.asyncio.client import connect

from streamtag.engine import events

TICKS = 20
"""Parts of a second in which the streams publish by turns."""
TYPES = ("stream_up", "stream_down", "stream_status", "title", "tag_on", "tag_off")
PROBE = "!probe"
"""A stream that is silent every second half second. Its title says when that was published."""
WATCH = """() => {
  window.delays = [];
  let before = "";
  new MutationObserver(() => {
    const row = document.querySelector("#table .row:not([hidden])");
    const state = row?.dataset.state;
    const sent = Number(row?.querySelector(".title").textContent.split(" ")[1]);
    if (before && state !== before && sent) window.delays.push(Date.now() - 1000 * sent);
    before = state;
  }).observe(document.getElementById("table"), { attributes: true, subtree: true });
}"""
"""Notes how long ago the probe, which comes first, changed its state."""
STAMP = re.compile(rb'"type":"title".*"title":"sent (\d+\.\d+)"')


def play(stage: Stage, names: list[str], tick: int) -> None:
    """What the streams publish in one tick."""
    second, part = divmod(tick, TICKS)
    some: list[events.Event] = [
        events.TitleChanged(names[tick % len(names)], tick, f"sent {time.time():.4f}")
    ]
    for k in range(part, len(names), TICKS):
        name, end = names[k], (second + 1) * RATE
        values = tuple((i * 7 + second) % 100 / 100 for i in range(len(stage.tags)))
        for at in (end - RATE // 2, end):
            some.append(events.WindowScored(name, TAGGER, at - RATE, at, values, values, False))
            some.append(
                events.LevelMeasured(name, at, -6.0 - second % 5, -18.0 - second % 7, -17.0)
            )
        some.append(events.MoodUpdated(name, TAGGER, end, 0.3, -0.2, 0.7))
        if second % 6 == k % 6:
            some.append(events.TagStarted(name, TAGGER, "piano", end, end, 0.9, False))
        elif second % 6 == (k + 3) % 6 and second >= 6:
            since, why = end - 3 * RATE, events.Reason.BELOW_THRESHOLD
            some.append(events.TagEnded(name, TAGGER, "piano", end, end, since, 0.9, why))
    if part % (TICKS // 2) == 0:
        at = tick * RATE // TICKS
        some.append(events.TitleChanged(PROBE, at, f"at {time.time():.4f}"))
        if part:
            some.append(events.SilenceStarted(PROBE, at, at))
        else:
            some.append(events.SilenceEnded(PROBE, at, at, at - RATE // 2))
    stage.publish(*some)


async def browse(host: str, port: int, stream: str, latencies: list[float]) -> None:
    """One browser: the events of all streams, the last hours, and a taggram."""

    async def read_events() -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=2**24)
        query = "levels=1&" + "&".join(f"type={name}" for name in TYPES)
        writer.write(f"GET /events?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        while data := await reader.readline():
            if found := STAMP.search(data):
                latencies.append(time.time() - float(found[1]))

    async def ask() -> None:
        while True:
            reader, writer = await asyncio.open_connection(host, port)
            head = f"GET /api/overview HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            await reader.read(-1)
            writer.close()
            await asyncio.sleep(10)

    async def watch() -> None:
        async with connect(f"ws://{host}:{port}/ws/scores?stream={stream}", proxy=None) as socket:
            async for _ in socket:
                pass

    await asyncio.gather(read_events(), ask(), watch())


def browsers(address: str, n: int, names: list[str], seconds: float, pipe: Connection) -> None:
    """A process of all browsers; sends the latencies, without those of the first second."""

    async def run() -> list[float]:
        host, _, port = address.rpartition(":")
        latencies: list[float] = []
        tasks = [
            asyncio.create_task(browse(host, int(port), names[k % len(names)], latencies))
            for k in range(n)
        ]
        await asyncio.sleep(1.0)
        latencies.clear()
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            if task.done():
                task.result()  # raises: a browser was disconnected
            task.cancel()
        return latencies

    pipe.send(asyncio.run(run()))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, with its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look(address: str, n: int, seconds: float, pipe: Connection) -> None:
    """A process of Chromium with the desk open; sends the page's share of a core, and delays."""
    with browsing() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"http://{address}/?sort=name")
        wait_until(page, f"Number(document.getElementById('table').ariaRowCount) > {n}")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time
        page.wait_for_timeout(3000)  # until the first drawings and the compiler are done
        page.evaluate(WATCH)

        def task_seconds() -> float:
            found = session.send("Performance.getMetrics")["metrics"]
            return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")

        tasks, since = task_seconds(), time.monotonic()
        page.wait_for_timeout(1000 * seconds)
        share = (task_seconds() - tasks) / (time.monotonic() - since)
        pipe.send((share, page.evaluate("window.delays")))


def perform(
    server: Server,
    stage: Stage,
    names: list[str],
    begin_tick: int,
    work: Callable[..., None],
    *arguments: Any,
) -> tuple[Any, float, float, int]:
    """Plays while a process works; returns what that sends, the server's share of a core, how
    late the publisher was in seconds, and the next tick."""
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    client = spawn.Process(target=work, args=(server.address, *arguments, theirs))
    client.start()
    tick, begin, pid = begin_tick, time.monotonic() - begin_tick / TICKS, server.popen.pid
    cpu, since, late = 0.0, begin, 0.0
    while not mine.poll():
        play(stage, names, tick)
        tick += 1
        if tick == begin_tick + 2 * TICKS:  # the browsers are there
            cpu, since = cpu_seconds(pid), time.monotonic()
        ahead = begin + tick / TICKS - time.monotonic()
        late = max(late, -ahead)
        time.sleep(max(0.0, ahead))
    share = (cpu_seconds(pid) - cpu) / (time.monotonic() - since)
    found = mine.recv()
    client.join()
    return found, share, late, tick


def part_of(values: list[float], part: float) -> float:
    """A quantile."""
    return sorted(values)[int(part * (len(values) - 1))]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--streams", type=int, default=500)
    options.add_argument("--browsers", type=int, default=20)
    options.add_argument("--seconds", type=float, default=20.0)
    chosen = options.parse_args()
    names = [f"station-{k}" for k in range(chosen.streams)]
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder) / "journal.db")
        now = time.time_ns()
        some = [events.StreamOpened(n, 0, RATE, now, (TAGGER,)) for n in (*names, PROBE)]
        stage.publish(*some)
        with serving(Path(folder), stage, stage.journal) as server:
            latencies, share, late, tick = perform(
                server, stage, names, 0, browsers, chosen.browsers, names, chosen.seconds
            )
            p50, p99 = (1000 * part_of(latencies, part) for part in (0.5, 0.99))
            print(
                f"{chosen.streams} streams, {chosen.browsers} browsers, {len(latencies)} arrivals: "
                f"{100 * share:.0f} % of a core; half within {p50:.0f} ms, 99 % within "
                f"{p99:.0f} ms (publisher late by {late:.1f} s)"
            )
            (page, delays), _, late, _ = perform(
                server, stage, names, tick, look, chosen.streams, chosen.seconds
            )
        stage.close()
    d50, d99 = (part_of(delays, part) for part in (0.5, 0.99))
    print(
        f"Chromium: {100 * page:.1f} % of a core; {len(delays)} changes of state, half within "
        f"{d50:.0f} ms, 99 % within {d99:.0f} ms (publisher late by {late:.1f} s)"
    )
    rows = [
        Row("desk/browsers", chosen.browsers, "browsers"),
        Row("desk/cpu_share", share, "cores"),
        Row("desk/p99_ms", p99, "ms"),
        Row("desk/browser_share", page, "cores"),
        Row("desk/browser_ms", d99, "ms"),
    ]
    write(rows, chosen.json)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()

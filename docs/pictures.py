"""Makes the pictures of the pages in docs/img/ (`make pictures`), with the browser of the tests.

    python docs/pictures.py [NAME …]

A name is the beginning of a picture's name, such as `wall-field`; without one all are made.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support.control_desk import TAG, Hour, controlled  # noqa: E402
from support.radio_day import DAY, RadioDay  # noqa: E402
from support.raised import raised  # noqa: E402
from support.stations import play_levels, play_station, play_stations  # noqa: E402
from support.wall import TAGGER, Stage, browsing, wait_until  # noqa: E402
from support.web_server import serving  # noqa: E402

from streamtag.history.history import History  # noqa: E402
from streamtag.history.query import Query  # noqa: E402
from streamtag.monitoring.programme_log import sections_in  # noqa: E402

IMAGES = HERE / "img"
SETTLE_MS = 2500
"""Until everything has faded in and the picture has its pace."""
SIZES = {"4k": (3840, 2160), "laptop": (1440, 900), "portrait": (1080, 1920), "phone": (390, 844)}
SIZES |= {"tall": (1440, 1300), "long": (390, 1300)}
MOODS: dict[str, tuple[tuple[float, float, float], dict[str, float]]] = {
    "happy": (
        (0.55, 0.35, 0.8),
        {"music": 0.99, "happy": 0.9, "funny": 0.8, "pop": 0.95, "guitar": 0.95, "singing": 0.9},
    ),
    "sad": (
        (-0.5, -0.3, 0.7),
        {"music": 0.99, "sad": 0.9, "melancholic": 0.9, "classical": 0.95, "cello": 0.9},
    ),
    "calm": (
        (0.35, -0.6, 0.8),
        {"music": 0.99, "calm": 0.9, "dreamy": 0.9, "ambient": 0.95, "piano": 0.9, "synth": 0.95},
    ),
    "energetic": (
        (0.2, 0.75, 0.85),
        {"music": 0.99, "energetic": 0.9, "party": 0.9, "techno": 0.95, "drum machine": 0.97},
    ),
    "tense": (
        (-0.5, 0.6, 0.8),
        {"music": 0.99, "aggressive": 0.9, "dark": 0.9, "metal": 0.95, "electric guitar": 0.95},
    ),
    "uncertain": ((0.05, -0.05, 0.12), {"music": 0.95, "folk": 0.3}),
    "speech": ((0.0, -0.2, 0.1), {"speech": 0.99}),
}
TITLES = {
    "happy": "Market Street Quartet – Morning in the Market",
    "sad": "Ensemble Nord – Lament in D minor",
    "calm": "Hana Lind – Slow Water",
    "energetic": "Kontakt 9 – Night Shift (Extended)",
    "tense": "Iron Harbour – Break the Line",
    "speech": "The Evening News",
}
THEMES = ("field", "constellation", "type")


class Picture(NamedTuple):
    """A picture to be made."""

    name: str
    stream: str
    size: str
    query: str


class DeskPicture(NamedTuple):
    """A picture of the desk."""

    name: str
    path: str
    size: str
    light: bool = False


STATION = "de-abendstern"
DESK_PICTURES = (
    DeskPicture("desk-laptop", "/", "laptop"),
    DeskPicture("desk-light", "/?q=de-+-state:silent&group=1", "laptop", light=True),
    DeskPicture("desk-4k", "/", "4k"),
    DeskPicture("desk-phone", "/", "phone"),
    DeskPicture("stream-laptop", f"/stream/{STATION}", "tall"),
    DeskPicture("stream-light", f"/stream/{STATION}", "tall", light=True),
    DeskPicture("stream-4k", f"/stream/{STATION}", "4k"),
    DeskPicture("stream-phone", f"/stream/{STATION}", "long"),
)
STATIONS = 120


class WrittenPicture(NamedTuple):
    """A picture of a page that the server writes: light on a laptop, dark elsewhere."""

    name: str
    path: str
    size: str


WRITTEN = {
    "report": f"/report/radio1?day={DAY}&tz=UTC",
    "control": f"/control?stream=radio1&tagger={TAGGER}&tag={TAG}&on=0.7",
    "settings": "/settings",
    "alerts": "/alerts",
    "sign-in": "/sign-in",
}
WRITTEN_PICTURES = tuple(
    WrittenPicture(f"{name}-{size}", path, size)
    for name, path in WRITTEN.items()
    for size in ("4k", "laptop", "phone")
)
ALERTS = (
    ("no sound", "silent for 5 min", ("de-nacht4", "fr-paroles")),
    ("stations lost", "3 streams lost", ("at-alpen3", "at-ring2", "uk-classics"), "critical"),
)


def pictures() -> list[Picture]:
    """All pictures of the documentation."""
    found = []
    for theme in THEMES:
        for stream in (*MOODS, "silence", "lost"):
            found.append(Picture(f"wall-{theme}-{stream}", stream, "laptop", f"theme={theme}"))
        for size in ("4k", "portrait", "phone"):
            found.append(Picture(f"wall-{theme}-{size}", "calm", size, f"theme={theme}"))
        light = f"theme={theme}&mode=light"
        found.append(Picture(f"wall-{theme}-light", "happy", "laptop", light))
    return found


def play_everything(stage: Stage) -> None:
    """A stream for each mood and state."""
    for stream, (mood, tags) in MOODS.items():
        stage.up(stream)
        stage.wander(stream, mood)
        stage.play(stream, mood, tags)
        if stream in TITLES:
            stage.title(stream, TITLES[stream])
    stage.up("silence")
    stage.silence("silence")
    stage.up("lost")
    stage.lose("lost")


def main(names: list[str], folder: Path = IMAGES) -> None:
    """Makes the pictures whose names begin with one of those given."""
    written = [p for p in WRITTEN_PICTURES if not names or p.name.startswith(tuple(names))]
    if reports := [p for p in written if p.name.startswith("report")]:
        make_report_pictures(reports, folder)
    if others := [p for p in written if p not in reports]:
        make_written_pictures(others, folder)
    wanted = [p for p in pictures() if not names or p.name.startswith(tuple(names))]
    folder.mkdir(exist_ok=True)
    make_desk_pictures([p for p in DESK_PICTURES if not names or p.name.startswith(tuple(names))])
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as temporary:
        stage = Stage(Path(temporary) / "journal.db")
        with (
            serving(Path(temporary), stage, Path(temporary) / "journal.db") as server,
            browsing() as browser,
        ):
            play_everything(stage)
            for picture in wanted:
                take(browser, server.url, picture, folder)
        stage.close()


def make_report_pictures(wanted: list[WrittenPicture], folder: Path = IMAGES) -> None:
    """Makes pictures of a report: of its first page, and of all of it on a phone."""
    with tempfile.TemporaryDirectory() as name, browsing() as browser:
        day = RadioDay(Path(name) / "journal.db")
        with serving(Path(name), day, day.journal) as server:
            for picture in wanted:
                page = written_page(browser, picture)
                page.goto(server.url + picture.path)
                save(page, picture, folder)
        day.close()


def make_written_pictures(wanted: list[WrittenPicture], folder: Path = IMAGES) -> None:
    """Makes pictures of the pages of sign-in, settings, control and alerts."""
    with tempfile.TemporaryDirectory() as name, browsing() as browser:
        hour = Hour(Path(name) / "j.db")
        with controlled(Path(name), hour) as (server, _):
            for alert in ALERTS:
                hour.derive(raised(*alert))
            for picture in wanted:
                page = written_page(browser, picture)
                if not picture.path.startswith("/sign-in"):
                    body = {"token": "change", "name": "Ana"}
                    headers = {"Streamtag-Request": "1"}
                    session = f"{server.url}/api/session"
                    page.context.request.post(session, data=body, headers=headers)
                page.goto(server.url + picture.path)
                save(page, picture, folder)
        hour.close()


def written_page(browser: Browser, picture: WrittenPicture) -> Page:
    """A page that shows nothing yet."""
    width, height = SIZES[picture.size]
    scale = 2 if picture.size in ("4k", "phone") else 1
    wide = {"width": width // scale, "height": height // scale}
    phone = {"width": width, "height": height}
    return browser.new_page(
        viewport=phone if picture.size == "phone" else wide,
        device_scale_factor=scale,
        color_scheme="light" if picture.size == "laptop" else "dark",
        locale="en",
    )


def save(page: Page, picture: WrittenPicture, folder: Path) -> None:
    """Takes a picture of a page, and closes it."""
    page.screenshot(path=folder / f"{picture.name}.jpg", type="jpeg", quality=80)
    page.close()


def make_desk_pictures(wanted: list[DeskPicture], folder: Path = IMAGES) -> None:
    """Makes pictures of the desk, with an hour of many stations."""
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as temporary:
        stage = Stage(Path(temporary) / "journal.db")
        names = play_stations(stage, STATIONS)
        for alert in ALERTS:
            stage.derive(raised(*alert))
        with serving(Path(temporary), stage, stage.journal) as server, browsing() as browser:
            play_station(stage, STATION, 1)
            stage.derive(*sections_in(History(stage.journal), Query(frozenset([STATION])), {}))
            for picture in wanted:
                width, height = SIZES[picture.size]
                scale = 2 if picture.size == "4k" else 1
                page = browser.new_page(
                    viewport={"width": width // scale, "height": height // scale},
                    device_scale_factor=scale,
                    color_scheme="light" if picture.light else "dark",
                    locale="en",
                )
                page.goto(server.url + picture.path)
                page.wait_for_timeout(2 * SETTLE_MS)
                if (
                    "stream" in picture.path
                ):  # an event of the second tag of the time line, below its three heads
                    box = page.locator("#timeline").bounding_box()
                    assert box is not None
                    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 4.5 * 17)
                    page.wait_for_timeout(SETTLE_MS)
                play_levels(stage, [*names, STATION])
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / f"{picture.name}.jpg", type="jpeg", quality=80)
                page.close()
        stage.close()


def take(browser: Browser, server: str, picture: Picture, folder: Path) -> None:
    """Makes one picture."""
    width, height = SIZES[picture.size]
    page = browser.new_page(viewport={"width": width, "height": height}, locale="en")
    page.goto(f"{server}/wall/{picture.stream}?{picture.query}")
    page.wait_for_selector("[data-scene]")
    page.wait_for_timeout(SETTLE_MS)
    wait_until(page, "document.getAnimations().length === 0")
    quality = 70 if picture.size == "4k" else 80
    page.screenshot(path=folder / f"{picture.name}.jpg", type="jpeg", quality=quality)
    page.close()


if __name__ == "__main__":
    main(sys.argv[1:])

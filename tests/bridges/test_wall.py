"""The wall in a real browser: what it shows, and that nothing stops it."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from daemon.test_daemon import Process
from support.paths import ROOT
from support.peers import free_port
from support.sounds import tone, write_wav
from support.wall import Open, Stage, opening_pages, wait_until
from support.web_server import Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STATIC = ROOT / "streamtag" / "bridges" / "web" / "static"
HAPPY = (0.6, 0.5, 0.8)
TENSE = (-0.6, 0.7, 0.8)
TAGS = {"music": 0.99, "happy": 0.8, "pop": 0.9, "piano": 0.9}
SMALL = {"width": 640, "height": 360}
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
FLICKER = """async () => {
  const small = Object.assign(document.createElement("canvas"), { width: 16, height: 9 });
  const context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const frames = [];
  const begin = performance.now();
  const passed = (seconds) => performance.now() - begin > 1000 * seconds;
  const moves = () => String(frames[0]) !== String(frames.at(-1));
  while (!passed(3) || frames.length < 8 || !(moves() || passed(60))) {
    await new Promise(requestAnimationFrame);
    context.drawImage(document.getElementById("picture"), 0, 0, 16, 9);
    const { data } = context.getImageData(0, 0, 16, 9);
    const linear = (x) => (x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
    const cells = [];
    for (let i = 0; i < data.length; i += 4) {
      const [red, green, blue] = [0, 1, 2].map((k) => linear(data[i + k]));
      cells.push(0.2126 * red + 0.7152 * green + 0.0722 * blue);
    }
    frames.push(cells);
  }
  return [frames, (performance.now() - begin) / 1000];
}"""
"""Relative luminance of 16 × 9 parts of the picture, for each frame of at least three seconds, and
how many seconds it was. It waits for a picture that does not move yet."""

CONTRAST = """async ([version, light]) => {
  const { Field } = await import(`/static/${version}/themes/field.js`);
  const { Look } = await import(`/static/${version}/look.js`);
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const copy = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const context = copy.getContext("2d", { willReadFrequently: true });
  const field = new Field(canvas);
  const linear = (x) => (x <= 10.3 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const ink = light ? 0.008 : 1;
  const found = [];
  for (let i = 0; i < 24; i++) {
    const look = new Look();
    const [valence, arousal] = [Math.cos(i), Math.sin(i)];
    look.update("music", { valence, arousal, certainty: 0.8 }, 0, false);
    look.phases = look.phases.map((_, k) => (7 * i * (k + 1)) % 6.28);
    field.draw(canvas, look, { light, transparent: false });
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(12, 55, 150, 110);  // where the words are
    const worst = [];
    for (let j = 0; j < data.length; j += 4) {
      const [r, g, b] = [0, 1, 2].map((k) => linear(data[j + k]));
      const ground = 0.2126 * r + 0.7152 * g + 0.0722 * b;
      worst.push((Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05));
    }
    found.push(worst.sort((a, b) => a - b)[Math.floor(worst.length / 100)]);
  }
  return found;
}"""
"""Contrast of the ink with the field where the words are, at the worst hundredth of places."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wall")


@pytest.fixture(scope="module")
def stage(folder: Path) -> Iterator[Stage]:
    stage = Stage(folder / "j.db", (EVIL,))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def server(folder: Path, stage: Stage) -> Iterator[Server]:
    with serving(folder, stage, folder / "j.db") as server:
        yield server


@pytest.fixture
def room(stage: Stage, request: pytest.FixtureRequest) -> str:
    """A stream that plays happy music, of another name for every test."""
    name = re.sub(r"\W+", "-", request.node.name)[:60]
    stage.up(name)
    stage.play(name, HAPPY, TAGS)
    return name


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    with opening_pages(browser, viewport=SMALL) as open_one:
        yield open_one


def version_of(server: Server) -> str:
    """The folder of the pages' files."""
    return server.get("/wall").text.partition("static/")[2].partition("/")[0]


def scene(page: "Page", name: str, hurry: int = 0) -> None:
    """Waits for a scene; the page's clock jumps by `hurry` milliseconds at every look."""
    wait_until(page, f"document.body.dataset.scene === {json.dumps(name)}", hurry)


def says(page: "Page", id: str, text: str, hurry: int = 0) -> None:
    found = f"document.getElementById({id!r}).innerText.trim() === {json.dumps(text)}"
    wait_until(page, found, hurry)


def test_states_have_pictures_of_their_own(
    server: Server, stage: Stage, room: str, open_page: Open
) -> None:
    page = open_page(f"{server.url}/wall/{room}?theme=type")
    scene(page, "music", 300)
    says(page, "mood", "happy", 300)
    says(page, "genre", "pop", 300)
    says(page, "instrument", "piano", 300)
    stage.title(room, "A Song")
    says(page, "title", "A Song", 300)
    stage.play(room, (0.0, 0.0, 0.05), {"music": 0.99, "folk": 0.3})
    scene(page, "uncertain", 300)  # after the word has stood its time
    says(page, "scene", "hard to say", 300)
    says(page, "genre", "perhaps folk", 300)
    stage.play(room, (0.0, 0.0, 0.05), {"speech": 0.99})
    scene(page, "speech", 300)
    says(page, "scene", "Speech", 300)
    stage.silence(room)
    scene(page, "silence", 300)
    stage.lose(room)
    scene(page, "lost", 300)
    says(page, "scene", "No signal", 300)
    says(page, "title", "", 300)
    stage.up(room)
    stage.play(room, HAPPY, TAGS)
    scene(page, "music", 300)
    says(page, "mood", "happy", 300)


@pytest.mark.parametrize("theme", ["field", "constellation", "type"])
def test_the_picture_moves_and_does_not_flicker(
    server: Server, stage: Stage, room: str, open_page: Open, theme: str
) -> None:
    page = open_page(f"{server.url}/wall/{room}?theme={theme}", reduced_motion="no-preference")
    scene(page, "music")
    for mood in (TENSE, HAPPY, TENSE):  # jumps such as no music makes
        stage.play(room, mood, TAGS)
    cells, seconds = page.evaluate(FLICKER)
    frames = np.array(cells)
    assert np.ptp(frames, axis=0).max() > 0
    assert max(changes(cell, 0.02) for cell in frames.T) <= 3 * seconds


def changes(luminance: np.ndarray, least: float) -> int:
    """Number of rises and falls by at least so much; WCAG counts those by 0.1 as flashes."""
    count, rising, extreme = 0, None, luminance[0]
    for value in luminance:
        if rising is not None and (value > extreme) == rising:
            extreme = value  # it goes on
        elif abs(value - extreme) >= least:
            count, rising, extreme = count + 1, value > extreme, value
    return count


def test_changes_of_brightness_are_counted() -> None:
    assert changes(np.tile([0.0, 0.1], 5), 0.02) == 9
    assert changes(np.tile([0.0, 0.01], 5), 0.02) == 0
    assert changes(np.linspace(0, 1, 50), 0.02) == 1
    assert changes(np.array([0, 0.5, 0.49, 1, 0.3]), 0.02) == 2


@pytest.mark.parametrize("light", [False, True])
def test_words_can_be_read_on_the_field(server: Server, open_page: Open, light: bool) -> None:
    page = open_page(f"{server.url}/wall/nobody?theme=type")
    found = page.evaluate(CONTRAST, [version_of(server), light])
    assert min(found) >= 3  # WCAG 2.2, 1.4.3, for large type


def test_without_motion_the_picture_stands_still(
    server: Server, room: str, open_page: Open
) -> None:
    page = open_page(f"{server.url}/wall/{room}?theme=type")
    says(page, "mood", "happy")
    wait_until(page, "document.getElementById('picture').width > 300")
    read = "document.getElementById('picture').toDataURL()"
    page.wait_for_timeout(600)  # the first frame of the mood
    before = page.evaluate(read)
    page.wait_for_timeout(1200)
    assert page.evaluate(read) == before


def test_options_of_the_address(server: Server, stage: Stage, room: str, open_page: Open) -> None:
    stage.title(room, "A Song")
    page = open_page(f"{server.url}/wall/{room}?theme=type&lang=de&show=mood,title&mode=light")
    says(page, "mood", "fröhlich")
    says(page, "title", "A Song")
    assert page.inner_text("#genre") == page.inner_text("#instrument") == ""
    assert page.evaluate("document.documentElement.lang") == "de"
    assert page.evaluate("getComputedStyle(document.body).cursor") == "none"
    assert sum(read_png(page.screenshot())[3, 3, :3]) > 0.6 * 3
    page = open_page(f"{server.url}/wall/{room}?theme=type&background=transparent")
    says(page, "mood", "happy")
    assert read_png(page.screenshot(omit_background=True))[3, 3, 3] == 0


def read_png(data: bytes) -> np.ndarray:
    """(height, width, 4) from 0 to 1."""
    from io import BytesIO

    from matplotlib.image import imread

    return imread(BytesIO(data), format="png")


def test_names_and_titles_are_text(
    server: Server, stage: Stage, room: str, open_page: Open
) -> None:
    stage.title(room, EVIL)
    stage.play(room, HAPPY, {EVIL: 0.99})
    page = open_page(f"{server.url}/wall/{room}?theme=type&logo={EVIL}", lost=True)  # no such logo
    says(page, "title", EVIL)
    says(page, "genre", EVIL)
    assert page.evaluate("document.querySelectorAll('#title span *, #genre li *').length") == 0
    page = open_page(f"{server.url}/wall/%3Cimg%20src=x%20onerror=window.hacked=1%3E?theme={EVIL}")
    scene(page, "waiting")
    for opened in page.context.pages:
        assert opened.evaluate("window.hacked") is None


def test_words_are_few_deserved_and_stable(server: Server, room: str, open_page: Open) -> None:
    page = open_page(f"{server.url}/wall/{room}?theme=type")
    version = version_of(server)
    choose = f"""async (steps) => {{
      const {{ WordChooser }} = await import("/static/{version}/words.js");
      const chooser = new WordChooser();
      const about = Object.fromEntries(["a", "b", "c", "d"].map((tag) => [tag,
        {{ category: "mood/theme", threshold: 0.5, position: [0, 0], name: "" }}]));
      about.c.threshold = 0.3;
      about.e = {{ ...about.a, category: "kind" }};
      return steps.map(([now, tags]) => {{
        const on = tags.map(([tag, probability, since]) => (
          {{ tag, display: "", probability, since: 1000 * since }}));
        const {{ mood, genre }} = chooser.update(on, about, 1000 * now);
        return [...mood.map((word) => word.tag + (word.doubtful ? "?" : "")), ...genre];
      }});
    }}"""
    shown = page.evaluate(
        choose,
        [
            [0, [["a", 0.9, -60], ["e", 0.9, -60]]],  # a kind is no word
            [1, [["a", 0.9, -60], ["b", 0.9, 0]]],  # too new
            [3, [["a", 0.9, -60], ["b", 0.9, 0], ["d", 0.99, -60]]],  # two at most
            [4, [["a", 0.9, -60], ["d", 0.99, -60]]],  # what was shown stays a while
            [20, [["a", 0.9, -60], ["c", 0.35, -60], ["d", 0.99, -60]]],  # c is in doubt
            [40, [["c", 0.35, -60]]],  # nothing is firm
            [41, [["c", 0.55, -60]]],
            [42, [["c", 0.45, -60]]],  # still firm
            [45, []],  # lingers
            [60, [["c", 0.24, -60], ["b", 0.2, -60]]],
        ],
    )
    assert shown == [
        *(["a"], ["a"], ["a", "d"], ["a", "d"], ["a", "d"]),
        *(["c?"], ["c"], ["c"], ["c"], []),
    ]


def test_the_token_stands_behind_the_hash(
    tmp_path: Path, folder: Path, stage: Stage, room: str, open_page: Open
) -> None:
    with serving(tmp_path, stage, folder / "j.db", 'token = "secret"') as server:
        page = open_page(f"{server.url}/wall/{room}?theme=type", lost=True)  # 401
        says(page, "scene", "No access")
        page = open_page(f"{server.url}/wall/{room}?theme=type#token=secret")
        says(page, "mood", "happy")


def test_a_killed_server_comes_back(
    tmp_path: Path, folder: Path, stage: Stage, room: str, open_page: Open
) -> None:
    port, journal = free_port(), folder / "j.db"
    server = Server(tmp_path, stage.publisher.address, journal, port=port)
    page = open_page(f"{server.url}/wall/{room}?theme=type", lost=True)
    says(page, "mood", "happy")
    server.end(signal.SIGKILL)
    stage.play(room, TENSE, {"music": 0.99, "dark": 0.9})
    with serving(tmp_path, stage, journal, port=port):
        says(page, "mood", "dark", 300)
        scene(page, "music")


def test_a_killed_daemon_comes_back(tmp_path: Path, toy_bundle: Path, open_page: Open) -> None:
    song = write_wav(tmp_path / "song.wav", tone(60, 8000, 200, 0.4), 8000)
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "daemon.toml"
    config.write_text(
        f"engine.device = 'cpu'\nfeed.bind = 'tcp://127.0.0.1:0'\nfeed.beat_seconds = 0.2\n"
        f"taggers.toy.bundle = {json.dumps(str(toy_bundle))}\nweb.bind = {address!r}\n"
        f"streams.room.source = {json.dumps(f'file:{song}')}\nstreams.room.pace = true\n"
    )
    first = Process(config)
    first.wait_until_ready()
    try:
        wait_for_page(address)
        page = open_page(f"http://{address}/wall?theme=type", lost=True)
        says(page, "genre", "low")
        desk = open_page(f"http://{address}/", lost=True)
        wait_until(desk, "document.querySelector('.row .now')?.innerText === 'low'")
        first.end(signal.SIGKILL)
        scene(page, "offline", 300)
        says(page, "scene", "No connection")
        wait_until(desk, "!document.getElementById('banner').hidden", 300)
    finally:
        first.end(signal.SIGKILL)
    again = Process(config)
    try:
        says(page, "genre", "low", 300)
        wait_until(desk, "document.getElementById('banner').hidden", 300)
        wait_until(desk, "document.querySelector('.row .now').innerText === 'low'")
    finally:
        again.end(signal.SIGKILL)


def wait_for_page(address: str) -> None:
    import httpx
    from support.web_server import wait_for

    def there() -> bool:
        try:
            return (
                httpx.get(f"http://{address}/wall", trust_env=False, verify=False).status_code
                == 200
            )
        except httpx.TransportError:
            return False

    wait_for(there)


def test_a_screen_notices_a_new_version_of_the_pages(
    server: Server, stage: Stage, room: str, open_page: Open
) -> None:
    page = open_page(f"{server.url}/wall/{room}?theme=type")
    version = version_of(server)
    old = server.get(f"/wall/{room}").text.replace(version, "0" * 16)
    served = []

    def serve_old(route: Any) -> None:
        """The first page is an old one, whose files are those of today."""
        served.append(route.request.url)
        if len(served) == 1:
            route.fulfill(body=old, content_type="text/html")
        else:
            route.continue_()

    def files(route: Any) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("0" * 16, version)))

    page.route(f"**/wall/{room}", serve_old)
    page.route(f"**/static/{'0' * 16}/**", files)
    page.goto(f"{server.url}/wall/{room}")
    wait_until(page, f"document.querySelector('link').href.includes({version!r})")
    assert len(served) == 2


def test_memory_does_not_grow_with_events(
    server: Server, stage: Stage, room: str, open_page: Open
) -> None:
    """`benchmarks/wall.py` plays eight hours."""
    page = open_page(f"{server.url}/wall/{room}?theme=constellation")
    says(page, "mood", "happy")
    session = page.context.new_cdp_session(page)

    def play(begin: int) -> float:
        for k in range(begin, begin + 100):
            tags = TAGS if k % 2 else {"music": 0.99, "dark": 0.9, "rock": 0.9}
            stage.play(room, HAPPY if k % 2 else TENSE, tags)
        stage.title(room, f"song {begin}")
        says(page, "title", f"song {begin}")
        session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"])

    play(0)  # fills caches
    before = play(1000)
    assert play(2000) - before < 200_000


def test_types_of_the_modules() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("tsc is not installed; `.ci/peers` installs it where npm is there")
    project = ROOT / "tests" / "bridges" / "tsconfig.json"
    done = subprocess.run([tsc, "-p", project], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_pages_stay_small() -> None:
    files = [path.read_text() for path in STATIC.rglob("*.js")]
    lines = [line for text in files for line in text.splitlines()]
    assert 2000 < len(lines) <= 2439  # all of them: comments and blank ones, too
    assert max(map(len, lines)) <= 100
    assert all(len(text) < 16_000 for text in files)


def test_every_language_has_every_text() -> None:
    tables = {path.stem: json.loads(path.read_text()) for path in STATIC.glob("languages/*.json")}
    assert set(tables) == {"en", "de", "es", "fr"}
    for name, table in tables.items():
        assert table["ui"].keys() == tables["en"]["ui"].keys(), name
        assert name == "en" or table["tags"].keys() == tables["de"]["tags"].keys(), name
    tags = tables["de"]["tags"].keys()
    assert set(Stage.known_tags()) <= tags

"""Reports on a schedule: which one is due, and its page and table for each stream."""

import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

from streamtag.bridges.state_bridge import TagVocabulary
from streamtag.bridges.web.report_page import ReportView, read_report, report_page
from streamtag.bridges.web.texts import Texts
from streamtag.config.report import ReportConfig
from streamtag.errors import StreamtagError
from streamtag.history.days import parse_period
from streamtag.history.export import report_csv
from streamtag.history.history import History
from streamtag.history.report import BOTH, LOST, MUSIC, SILENCE, SPEECH, StreamReport

log = logging.getLogger(__name__)

MOST_BYTES = 10_000_000
"""Pages are attached up to here; mail servers refuse more. The rest is in the folder alone."""


@dataclass(frozen=True, slots=True)
class MadeReport:
    """What is sent."""

    key: str
    """Of its period."""
    title: str
    body: str
    files: tuple[str, ...]
    """Paths of what is attached."""


class ReportSchedule:
    """Makes the reports that are due, each once, in a thread of its own.

    Args:
        config: which ones.
        path: of the daemon's configuration, for what it says of tags.
        journal: what they are made of.
        folder: where their pages are kept.
    """

    def __init__(self, config: ReportConfig, path: Path, journal: Path, folder: Path) -> None:
        self.config = config
        self._path, self._journal, self._folder = path, journal, folder
        self._lock = threading.Lock()
        self._making = ""
        self._made: MadeReport | None = None

    def due(self, now_ns: int) -> str:
        """The key of the newest report whose time has come; keys of later ones are greater."""
        return f"{self.config.every} {self._days(now_ns)[0].isoformat()}"

    def made(self, now_ns: int) -> MadeReport | None:
        """The report that is due; None as long as it is not made."""
        key = self.due(now_ns)
        with self._lock:
            if self._made is not None and self._made.key == key:
                return self._made
            if not self._making:
                self._making = key
                threading.Thread(target=self._make, args=(key, now_ns), daemon=True).start()
        return None

    def _days(self, now_ns: int) -> list[date]:
        zone, every = ZoneInfo(self.config.zone), self.config.every
        begin = parse_period(every, "this", zone, now_ns)[0]
        sent = datetime.combine(begin, self.config.time, zone)
        if now_ns < int(sent.timestamp()) * 10**9:
            begin = parse_period(every, "last", zone, now_ns)[0]
        before = (begin - timedelta(days=1)).isoformat()
        return parse_period(every, before, zone, now_ns)

    def _make(self, key: str, now_ns: int) -> None:
        try:
            made = self._report(key, now_ns)
        except (StreamtagError, OSError) as error:
            log.error("report %s: expected to be made, got %s", key, error)
            made = MadeReport(key, f"Report {key}", f"It could not be made: {error}", ())
        with self._lock:
            self._made, self._making = made, ""

    def _report(self, key: str, now_ns: int) -> MadeReport:
        days, zone = self._days(now_ns), ZoneInfo(self.config.zone)
        texts = Texts(self.config.lang)
        view = ReportView(days[0], zone, now_ns, texts, "light", days=len(days))
        folder = self._folder / view.period
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        lines, pages = [], []
        for name, line in self._streams(partial, view):
            lines.append(line)
            pages.append(folder / name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        files = list(_attached(pages))
        if len(files) < len(pages):
            lines.append(f"{len(pages) - len(files)} more pages are in {folder}.")
        body = "\n".join(lines) or "The journal has no stream of it."
        return MadeReport(key, f"[REPORT] {view.period.replace('_', ' to ')}", body, tuple(files))

    def _streams(self, folder: Path, view: ReportView) -> Iterator[tuple[str, str]]:
        """Writes page and table of each stream; the page's name and a line of the body."""
        vocabulary = TagVocabulary(self._path)
        history = History(self._journal)
        try:
            for stream in history.streams():
                if not any(fnmatchcase(stream, pattern) for pattern in self.config.streams):
                    continue
                described = vocabulary.descriptions(stream)
                categories = {tag: about["category"] for tag, about in described.items()}
                made = read_report(history, stream, view, categories)
                name = f"{quote(stream, safe='')}_{view.period}"
                (folder / f"{name}.html").write_text(report_page(made, view), "utf-8")
                with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                    file.writelines(report_csv(made))
                yield f"{name}.html", summary(made)
        finally:
            history.close()


def summary(report: StreamReport) -> str:
    """A report in one line."""
    seconds, heard = report.seconds, report.heard
    whole = sum(seconds.values())
    words = [f"received {_share(heard, whole)}"]
    words += [f"{name} {seconds[name] / 60:.0f} min" for name in (LOST, SILENCE)]
    words.append(f"one-sided {report.one_sided / 60:.0f} min")
    words.append(f"music {_share(seconds[MUSIC] + seconds[BOTH], heard)}")
    words.append(f"speech {_share(seconds[SPEECH] + seconds[BOTH], heard)}")
    words.append(f"alerts {len(report.alerts)}")
    return f"{report.stream}: {', '.join(words)}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _attached(pages: list[Path]) -> Iterator[str]:
    """The pages, as many as may be attached."""
    size = 0
    for page in pages:
        size += page.stat().st_size
        if size > MOST_BYTES:
            return
        yield str(page)

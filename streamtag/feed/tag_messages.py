"""Messages about tags: on, off, scores, mood."""

from dataclasses import dataclass

from streamtag.feed.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOn(Message):
    """A tag became active at `t`."""

    type = "tag_on"
    tagger: str
    tag: str
    decided: float
    """Stream time up to which audio was needed to know it; at least `t`."""
    probability: float
    """Smoothed, when decided."""
    provisional: bool
    """Decided on a window that was not full yet."""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""
    display: str = ""
    """The tag's name for people, in the language configured; empty where none is."""
    model: str = ""
    checksum: str = ""
    """The first 12 hexadecimal digits of the SHA-256 of the model's bundle."""

    def details(self) -> str:
        return f"{self.display or self.tag} {self.probability:.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOff(Message):
    """An active tag ended at `t`. Every tag_on gets exactly one."""

    type = "tag_off"
    tagger: str
    tag: str
    decided: float
    """Stream time up to which audio was needed to know it; at least `t`."""
    since: float
    """`t` of the matching tag_on."""
    since_utc: str
    peak: float
    """Largest smoothed probability in between."""
    reason: str
    """`below_threshold`, `stream_closed`, `stream_lost`, `shutdown`, …"""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    def details(self) -> str:
        return f"{self.tag} after {self.t - self.since:.1f} s, peak {self.peak:.2f}, {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Message):
    """What one window got; `t` is its end."""

    type = "scores"
    tagger: str
    start: float
    """Stream time at which the window's audio begins."""
    provisional: bool
    """The window was not full: its past is padding."""
    tags: tuple[str, ...]
    values: tuple[float, ...]
    """Probabilities in the order of `tags`, before smoothing."""
    smoothed: tuple[float, ...]
    """The same after smoothing: what the thresholds are compared with."""
    title: str = ""
    """What the source said was playing; empty where it said nothing."""

    @property
    def topic(self) -> str:
        return f"scores/{self.stream}/"

    def details(self) -> str:
        best = sorted(zip(self.smoothed, self.tags, strict=True), reverse=True)[:5]
        return ", ".join(f"{tag} {value:.2f}" for value, tag in best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood(Message):
    """Where the stream stands on the mood plane, once a second; slow, for displays."""

    type = "mood"
    tagger: str
    valence: float
    """From -1, unpleasant, to 1, pleasant."""
    arousal: float
    """From -1, at rest, to 1, excited."""
    certainty: float
    """From 0, the tags say nothing, to 1."""

    @property
    def topic(self) -> str:
        return f"mood/{self.stream}/"

    def details(self) -> str:
        return f"valence {self.valence:+.2f}, arousal {self.arousal:+.2f}"

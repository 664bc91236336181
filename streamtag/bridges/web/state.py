"""The present of a stream as JSON has it."""

from typing import Any

from streamtag.feed.client.stream_state import StreamState
from streamtag.feed.messages import Mood, Scores, TagOn


def stream_state(now: StreamState) -> dict[str, Any]:
    """All that is known of one stream."""
    return {
        "status": now.status,
        "cause": now.cause,
        "detail": now.detail,
        "title": now.title,
        "silent": now.silent,
        "taggers": list(now.taggers),
        "models": list(now.models),
        "tags": [_tag(on) for by_tagger in now.on.values() for on in by_tagger.values()],
        "scores": {tagger: _scores(scores) for tagger, scores in now.scores.items()},
        "mood": _mood(now.mood),
    }


def _tag(on: TagOn) -> dict[str, Any]:
    return {
        "tag": on.tag,
        "display": on.display or on.tag,
        "tagger": on.tagger,
        "since": on.utc,
        "probability": round(on.probability, 6),
    }


def _scores(scores: Scores) -> dict[str, Any]:
    values = zip(scores.tags, scores.smoothed, strict=True)
    return {"utc": scores.utc, "tags": {tag: round(value, 6) for tag, value in values}}


def _mood(mood: Mood | None) -> dict[str, Any] | None:
    if mood is None:
        return None
    return {
        "utc": mood.utc,
        "valence": round(mood.valence, 6),
        "arousal": round(mood.arousal, 6),
        "certainty": round(mood.certainty, 6),
    }

"""Live audio tagging: what the music is like, as events that other programs can rely on.

Audio arrives in blocks, becomes frames in a ring, is cut into windows, runs through a scripted
model in batches, comes out as probabilities, is smoothed and switched into events, and leaves in
messages. The folders follow that sentence, and each imports only from those before it:

    errors.py   what is raised, and the words for what pydantic refuses
    audio/      samples to frames: blocks, resampling, level, feature configuration, front end
    model/      bundles, their cards, and taggers: the only place that loads TorchScript
    engine/     many streams, one model call: windows, batches, smoothing, events
    feed/       messages on ZeroMQ: codec, publisher, replay, keys; journal/, client/ and nats/
    config/     the TOML file, table by table, and what differs between two of them
    sources/    files, folders, sound cards, URLs, raw samples; sources that reconnect
    history/    questions to a journal: queries, intervals, export, taggrams; archive/ tags many
                recordings into tables and queries them
    monitoring/ alerts, clips of audio as evidence, the log of the programme
    bridges/    processes that publish the feed in other protocols: mqtt/ web/ webhook/ osc, nats
    daemon/     threads and signals around an engine; ops/ for health, metrics, logs and systemd;
                fleet/ for daemons that share stations
    train/      nets, recipes, data, training, evaluation, export
    cli/        the commands
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtag.audio.feature_config import FeatureConfig
    from streamtag.audio.front_end import FrontEnd
    from streamtag.feed import messages
    from streamtag.feed.client.subscriber import AsyncSubscriber, Subscriber
    from streamtag.feed.client.tracker import MissedMessages
    from streamtag.model.tagger import Tagger
    from streamtag.sources.recording import TaggedRecording, tag_file

__version__ = "0.1.0"
__all__ = [
    "AsyncSubscriber",
    "FeatureConfig",
    "FrontEnd",
    "MissedMessages",
    "Subscriber",
    "TaggedRecording",
    "Tagger",
    "__version__",
    "messages",
    "tag_file",
]

_MODULES = {
    "AsyncSubscriber": "streamtag.feed.client.subscriber",
    "FeatureConfig": "streamtag.audio.feature_config",
    "FrontEnd": "streamtag.audio.front_end",
    "MissedMessages": "streamtag.feed.client.tracker",
    "Subscriber": "streamtag.feed.client.subscriber",
    "TaggedRecording": "streamtag.sources.recording",
    "Tagger": "streamtag.model.tagger",
    "tag_file": "streamtag.sources.recording",
}
"""The module of each public name. A module is imported when a name of it is first used, so that a
subscriber needs no torch. docs/python.md describes the names."""


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use."""
    if name == "messages":
        return import_module("streamtag.feed.messages")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'streamtag' has no attribute {name!r}")

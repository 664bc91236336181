"""Live audio tagging: what the music is like, as events that other programs can rely on.

Audio flows in as blocks, becomes frames in a ring, is looked at through windows, runs through a
scripted model in batches, comes out as probabilities, is smoothed and switched into events, and
leaves on the wire. The modules say the same sentence, from the ground up:

    errors      what is raised
    assets      the model and the music that come along
    keys        key pairs for the feed
    memory      the heap and the garbage collector
    leftovers   folders of journals that end with their process
    audio       Block, mono down-mix, streaming resampler
    features    FeatureConfig, FrontEnd (over the C++ core, streamtag._core)
    card        what a bundle says about itself
    window      which windows are due
    smoothing   exponential smoothing and on/off hysteresis, in seconds
    level, channels   silence and clipping; one channel silent, or both the same
    settings    how one tagger listens to one stream
    events      what can happen to a stream
    bundle      reading and writing bundles
    tagger      a loaded bundle
    message, stream_messages, tag_messages, feed_messages, encoding, parsing, messages, protocol
                what goes over the feed, and how it is spelt
    spelling    tag events as bytes without a message in between
    stats       counters and histograms
    monitor     what a daemon knows about itself
    service, exposition, logs, operation   systemd, Prometheus and health, log lines; all together
    batch, batchers   due windows gathered into batches, per tagger
    stream      one stream inside the engine
    engine      many streams, one model call
    causes      why a source was lost
    sources     what a source is; standard input
    decoder     files
    soundcard, soundcard_process   the sound card, and each device in a process of its own
    network     URLs, through ffmpeg
    network_pcm raw samples over TCP and ZeroMQ
    folder      folders of recordings
    backoff     how long to wait before a lost source is tried again
    wire        events as messages
    standing, newest   which messages are in force, and the last scores
    following   what a subscriber makes of a feed
    connection  a subscriber between two waits
    ledger, journal   every message in a file before anybody sees it, and beside it how many
    guard       who may use the feed's sockets
    sockets, feed_socket   the feed's sockets
    replay      what was missed, on a ZeroMQ socket
    recovery    what a crash left open
    backlog, publisher   messages on their way to a ZeroMQ socket
    client      Subscriber: messages back from the socket
    intake      queues from the sources to the engine
    supervisor  sources that come back
    tuning, stream_config, feed_config, complaints, config   the daemon's TOML
    feed        journal, wire and publisher put together
    fitting, check   whether a configuration fits its models, and what can be said against it
    outward, bridges   what carries the feed elsewhere: its tie to the daemon; the daemon's children
    present, retained, vocabulary   what is so now, what stands elsewhere, which tags may come
    mqtt, webhook, osc   an MQTT broker, HTTP receivers, lights (each with its _config and parts)
    reception   which source a stream means
    loading     a configuration's models
    schema      JSON Schema of the feed
    commands, control   what a running daemon can be told, and the socket for it
    changes, rehearsal, reshaping, orders   what differs, models on trial, the change, one by one
    outlet, lineup   events to the feed; the streams of a daemon
    daemon      threads and signals around an engine
    cli         the commands
    train/      nets, data, fitting, export; nothing outside may need it

A module imports only from those above it in this list (a test holds that).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtag.feed.client.subscriber import AsyncSubscriber, Subscriber

__version__ = "0.1.0"
__all__ = ["AsyncSubscriber", "Subscriber", "__version__"]


def __getattr__(name: str) -> Any:
    """`streamtag.Subscriber`, imported when first asked for: it needs pyzmq, not torch."""
    if name in ("AsyncSubscriber", "Subscriber"):
        from streamtag.feed.client import subscriber

        return getattr(subscriber, name)
    raise AttributeError(f"module 'streamtag' has no attribute {name!r}")

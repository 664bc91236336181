"""Which worker gets which stream: by cost, so that all have about the same to do."""

from collections.abc import Collection, Mapping

from streamtag.config.config import Config
from streamtag.daemon.engine_commands import TaggerCost
from streamtag.model.card import Card

STREAM_COST = 0.001
"""Share of a core that a stream takes beside its models, about: reading, level, front end."""


def stream_cost(
    config: Config, name: str, cards: Mapping[str, Card], costs: Mapping[str, TaggerCost]
) -> float:
    """Seconds of work per second of a stream, about: its rate of windows times their cost.

    A tagger whose card or cost is not known yet counts as nothing.
    """
    taggers = {tagger: cards[tagger] for tagger in config.taggers if tagger in cards}
    if taggers.keys() != config.taggers.keys():
        return STREAM_COST
    total = STREAM_COST
    for tagger, settings in config.settings(name, taggers).items():
        if tagger in costs:
            card, cost = taggers[tagger], costs[tagger]
            frames = card.window_frames if cost.streaming else settings.hop_frames(card)
            total += cost.seconds / (frames * card.features.hop / card.features.sample_rate)
    return total


def share_out(
    costs: Mapping[str, float], present: Mapping[str, int], workers: Collection[int]
) -> dict[str, int]:
    """The worker of each stream.

    A stream stays where it is, if that is one of the workers. The others go, the dearest first, to
    the worker that has the least to do.

    Args:
        costs: of all streams.
        present: the worker of those that have one.
        workers: the numbers of those that can take streams; at least one.
    """
    shares = {name: present[name] for name in costs if present.get(name) in workers}
    load = dict.fromkeys(workers, 0.0)
    for name, worker in shares.items():
        load[worker] += costs[name]
    for name in sorted(costs.keys() - shares.keys(), key=lambda name: (-costs[name], name)):
        shares[name] = least = min(load, key=lambda worker: (load[worker], worker))
        load[least] += costs[name]
    return {name: shares[name] for name in costs}

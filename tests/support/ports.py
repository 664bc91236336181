"""The audio of a source as blocks, whether it comes in blocks or through a port."""

from collections.abc import Iterator

from streamtag.audio.block import Block
from streamtag.sources.source import AudioArrived, AudioSource, SourceTitle


def blocks_of(source: AudioSource) -> Iterator[Block | SourceTitle]:
    """What a source delivers; a port that has no place counts its samples from 0."""
    for item in source:
        if isinstance(item, AudioArrived):
            while found := item.port.take(source.rate // 10):
                yield Block(found[1], found[0], source.rate, found[2])
        else:
            yield item

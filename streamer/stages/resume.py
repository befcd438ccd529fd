"""Where infer reads on: nothing but `windows` is committed, so the windows around that offset say where their media stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from streamer.events import Window

LOOK = 256
"""Records of `windows` before and after the committed offset that are looked at."""


def media_positions(
    before: Iterable[Window], after: Iterable[Window], first: Mapping[str, int], *, committed: bool
) -> dict[str, int | None]:
    """Topic -> offset to read on from; None: from the log's end. `first`: topic -> the log's start.

    The lowest that a window `after` the commit names in its first revision; without one, past the highest that one
    `before` names; without a commit the log's start. A topic that none of them names is read from its end: what a later
    window names of it is fetched.
    """
    low, high = dict[str, int](), dict[str, int]()
    for topic, offset in _named(after):
        low[topic] = min(offset, low.get(topic, offset))
    for topic, offset in _named(before):
        high[topic] = max(offset + 1, high.get(topic, 0))
    found = {topic: low.get(topic, high.get(topic) if committed else start) for topic, start in first.items()}
    return {topic: None if offset is None else max(offset, first[topic]) for topic, offset in found.items()}


def _named(windows: Iterable[Window]) -> Iterator[tuple[str, int]]:
    for window in windows:
        if window.revision == 0:
            yield from ((ref.origin.topic, ref.origin.offset) for ref in window.manifest)

"""Configured clock offsets: what a source's clock is known to be wrong by, added to its times as its records are read.

This is the one place, the step after `read_head`, and align, transcribe and infer all take it. Not ingest: others write
`frames` and `audio` too, and what a camera said of itself stays in the log as it said it. Not the aligner alone: the words
would follow the camera's clock and the windows ours.

Laws:
1. Ids, the log and payloads stay as they are; start, end and marks move. Lateness and skew are judged by the moved times.
2. Transcripts are not moved unless named: what our transcribe writes follows from sound that was moved already.
3. Without offsets nothing is done: callers ask `if offsets` first.

After a change of the setting (every role is started again with it) records are read by the new offset from the low-water
on. Nothing is lost, and what is out stays out: an event that stands in an emitted window keeps the time that it had there
and is a duplicate in that window; where its new time lies in another window, that window names it too. transcribe hears its
sound anew from its last segment boundary on: what it says from there has new times, hence new ids, and what it had written
before keeps its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from streamer.config import SessionSettings
from streamer.errors import BadRecord, Reason
from streamer.events import Event, Mark, Micros, Modality
from streamer.stages.times import EARLIEST, LATEST


class Offsets:
    """See the laws above."""

    def __init__(self, sessions: Iterable[SessionSettings]) -> None:
        self._known: dict[tuple[str, Modality, str], int] = {
            (session.id, modality, one.source): one.offset for session in sessions for one in session.offsets for modality in one.modalities
        }

    def __bool__(self) -> bool:
        return bool(self._known)

    def of(self, session: str, modality: Modality, source: str) -> Micros:
        """The offset of one track; 0 where none is configured."""
        return Micros(self._known.get((session, modality, source), 0))

    def corrected(self, item: Event | Mark) -> Event | Mark:
        """The item by our clock. Raises BadRecord where no calendar holds that."""
        track = item.track
        offset = self._known.get((track.session, track.modality, track.source))
        if not offset:
            return item
        if isinstance(item, Mark):
            return dataclasses.replace(item, until=_moved(item.until, offset))
        return dataclasses.replace(item, start=_moved(item.start, offset), end=_moved(item.end, offset))


def _moved(at: Micros, offset: int) -> Micros:
    if not EARLIEST <= at + offset <= LATEST:
        raise BadRecord(Reason.BAD_HEADER, f"ce_time: with its source's offset of {offset} us it is outside of the years 1 to 9999 UTC")
    return Micros(at + offset)

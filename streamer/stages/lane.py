"""One partition on its way through infer: windows in order, and the events that they wait for.

Laws:
1. What is done leaves in the order of `windows`, each once; only a revision whose successor was read may be passed over.
2. The next window waits for nothing but events that were handed to the encoder: `missing` names every other, once.
3. Reading ahead of the windows ends where the cache is full. No more than `MOST_WAITING` windows wait; from then on until
   half of them are done, media that arrived after the last of them wait too: nobody can name them yet.
4. A frame that was shed is not waited for, nor fetched; unless its track has no usable frame in the next window: then one is.
5. `next_offset` is past everything that is done, and nothing else: it may be committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice, takewhile

from streamer.events import Event, EventRef, Micros, Modality, Pace, SessionMark, Silence, Window
from streamer.stages.cache import SHED, FeatureCache, Unusable
from streamer.stages.shed import Shedding

LARGE = 2
"""An event larger than 1/LARGE of the bound is not read ahead: its window fetches it."""
MOST_WAITING = 1_000
"""Windows that wait, and are held in memory with their manifests."""
FLIGHT_BYTES = 2_048
"""What an event that is being encoded costs besides its record: its task and its place in the queues."""


class Admission(Enum):
    """What becomes of an event that was read ahead."""

    ENCODE = auto()
    KNOWN = auto()
    LATER = auto()
    FULL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One record of `windows`, when it came there; `what` None: it was no good, and only its place in the order counts."""

    offset: int
    arrival: Micros
    what: Window | SessionMark | None

    @property
    def manifest(self) -> tuple[EventRef, ...]:
        """The events that it needs."""
        return self.what.manifest if isinstance(self.what, Window) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record of `windows` that is ready. `features`: for each event of the manifest, features or Unusable."""

    partition: int
    entry: Waiting
    features: tuple[object, ...]
    scored: bool

    @property
    def window(self) -> Window:
        """Raises where the record is no window."""
        if not isinstance(self.entry.what, Window):
            raise TypeError(f"windows/{self.partition}@{self.entry.offset} is no window")
        return self.entry.what


class Lane:
    """See the laws above. `bound` is the cache's, in bytes; `next_offset` the first record of `windows` to be read."""

    def __init__(self, partition: int, *, bound: int, next_offset: int) -> None:
        self.partition = partition
        self.cache = FeatureCache(bound)
        self.next_offset = next_offset
        self._waiting = deque[Waiting]()
        self._latest = dict[str, int]()
        self._read = Micros(0)
        self._crowded = False

    def __len__(self) -> int:
        return len(self._waiting)

    def crowded(self) -> bool:
        """Whether no window may be read for now."""
        self._crowded = len(self._waiting) > (MOST_WAITING // 2 if self._crowded else MOST_WAITING - 1)
        return self._crowded

    def early(self, arrival: Micros) -> bool:
        """Whether media that arrived then are ahead of windows that may not be read for now."""
        return arrival > self._read and self.crowded()

    def event(self, event: Event, *, headers: int = 0) -> Admission:
        """An event that was read ahead of its windows. `headers`: bytes of its record besides the payload."""
        self.cache.passed(event.arrival)
        if self.cache.known(event.origin):
            return Admission.KNOWN
        size = event.size + headers
        if size > self.cache.bound // LARGE:
            return Admission.LATER
        size += FLIGHT_BYTES
        admitted = self.cache.admit(event.origin, session=event.track.session, end=event.end, arrival=event.arrival, size=size)
        return Admission.ENCODE if admitted else Admission.FULL

    def window(self, offset: int, arrival: Micros, what: Window | SessionMark | None) -> None:
        """The next record of `windows`."""
        self.cache.passed(arrival)
        self._read = arrival
        entry = Waiting(offset=offset, arrival=arrival, what=what)
        self._waiting.append(entry)
        self.cache.name(entry.manifest)
        if isinstance(what, Window):
            self._latest[what.id] = max(what.revision, self._latest.get(what.id, 0))
            if what.revision == 0:
                self.cache.newest(what.session, what.start)
        if len(self._waiting) == 1:
            self.cache.next_is(entry.manifest)

    def missing(self, shedding: Shedding | None = None) -> list[EventRef]:
        """Events of the next window that nobody has handed to the encoder: they are now awaited, so hand them over."""
        if not self._waiting or self._passed_over(self._waiting[0]):
            return []
        what = self._waiting[0].what
        if not isinstance(what, Window):
            return []
        found = [ref for ref in what.manifest if not self.cache.known(ref.origin)]
        held = (ref for ref in what.manifest if self.cache.known(ref.origin) and not self._shed(ref))
        left_out = shedding.thinned(found, held) if shedding else frozenset()
        for ref in found:
            self.cache.reserve(ref, what.session)
            if ref.origin in left_out:
                self.cache.put(ref.origin, SHED)
        back = self._bare(what.manifest)
        for ref in back:
            self.cache.withdraw(ref.origin)
            self.cache.reserve(ref, what.session)
        return [*(ref for ref in found if ref.origin not in left_out), *back]

    def oldest(self) -> tuple[Micros, Micros] | None:
        """When the first live window that waits came, and its trigger."""
        live = ((one.arrival, one.what.trigger) for one in self._waiting if isinstance(one.what, Window) and one.what.pace is Pace.LIVE)
        return next(live, None)

    def ready(self, most: int) -> list[Waiting]:
        """What can be done now, in order: at most `most` windows with all they need."""
        return list(takewhile(self._complete, islice(self._waiting, most)))

    def held(self, ready: Iterable[Waiting]) -> list[Step]:
        """The same with their features; `scored` says whether there is a score to be written."""
        return [self._step(entry) for entry in ready]

    def done(self, entries: Iterable[Waiting]) -> None:
        """These, the first that wait, are written and acknowledged."""
        for entry in entries:
            self._waiting.popleft()
            self.cache.release(entry.manifest)
            self.next_offset = entry.offset + 1
            what = entry.what
            if isinstance(what, Window) and self._latest.get(what.id) == what.revision:
                del self._latest[what.id]
            elif isinstance(what, SessionMark) and what.why is Silence.END:
                self.cache.forget(what.session)
        self.cache.next_is(self._waiting[0].manifest if self._waiting else ())

    def _complete(self, entry: Waiting) -> bool:
        if self._passed_over(entry):
            return True
        return all(self.cache.get(ref.origin) is not None for ref in entry.manifest) and not self._bare(entry.manifest)

    def _shed(self, ref: EventRef) -> bool:
        return self.cache.get(ref.origin) is SHED

    def _bare(self, manifest: Iterable[EventRef]) -> list[EventRef]:
        """Of each track whose frames are all unusable, and some of them shed: the first of those."""
        shed, usable = dict[str, EventRef](), set[str]()
        for ref in manifest:
            if ref.modality is Modality.FRAMES and ref.source not in usable:
                if (value := self.cache.get(ref.origin)) is SHED:
                    shed.setdefault(ref.source, ref)
                elif not isinstance(value, Unusable):
                    usable.add(ref.source)
        return [ref for source, ref in shed.items() if source not in usable]

    def _passed_over(self, entry: Waiting) -> bool:
        what = entry.what
        return isinstance(what, Window) and 0 < what.revision < self._latest.get(what.id, 0)

    def _step(self, entry: Waiting) -> Step:
        scored = isinstance(entry.what, Window) and not self._passed_over(entry)
        found = tuple(self.cache.get(ref.origin) for ref in entry.manifest) if scored else ()
        return Step(partition=self.partition, entry=entry, features=found, scored=scored)

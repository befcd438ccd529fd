"""Hard cases of alignment as plain logs: what came to be in each, how it is read, and what came out, in counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from streamer.config import AlignSettings
from streamer.events import Micros, Modality, SessionMark, Silence, Window
from tests.stages.align_streams import AUDIO, FRAMES, TRANSCRIPTS, Driver, Log, at, final, judge, reference

DEFAULTS = AlignSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out. `duplicates`: since the crash in the middle. `idle`: how often a session was flushed as silent.

    `as_it_should`: every window's final manifest, and what is late, are those of the slow, obvious reference.
    """

    records: int
    windows: int
    revisions: int
    late: int
    dead: int
    duplicates: int
    idle: int
    as_it_should: bool

    @classmethod
    def of(cls, driver: Driver) -> Outcome:
        """Count what a finished driver has written."""
        windows = [record for record in driver.windows if isinstance(record, Window)]
        silences = [record for record in driver.windows if isinstance(record, SessionMark)]
        first = sum(window.revision == 0 for window in windows)
        return cls(
            records=len(driver.log.all),
            windows=first,
            revisions=len(windows) - first,
            late=len(driver.late),
            dead=len(driver.rejected),
            duplicates=driver.aligner.tally.duplicates.total(),
            idle=sum(mark.why is Silence.IDLE for mark in silences),
            as_it_should=final(windows) == reference(driver.log, driver.settings)
            and set(driver.late) == {event.origin for event in judge(driver.log, driver.settings)["late"]},
        )


@dataclass(frozen=True, slots=True)
class Said:
    """One record: it arrives at `arrival`, in seconds after noon."""

    arrival: float
    modality: Modality
    start: float
    end: float
    source: str = "one"
    session: str = "hall"


def street(begin: float, seconds: int, *, session: str = "hall", skip: tuple[Modality, ...] = ()) -> list[Said]:
    """Two frames and a chunk of sound a second, and every fourth second some words that take a second more to come."""
    said = []
    for n in range(seconds):
        second = begin + n
        said += [
            Said(second, FRAMES, second, second, session=session),
            Said(second + 0.5, FRAMES, second + 0.5, second + 0.5, session=session),
        ]
        said.append(Said(second + 1, AUDIO, second, second + 1, session=session))
        if n % 4 == 3:
            said.append(Said(second + 2, TRANSCRIPTS, second, second + 1, session=session))
    return [one for one in said if one.modality not in skip]


def written(said: list[Said]) -> Log:
    """The log that this makes."""
    log = Log()
    for one in sorted(said, key=lambda one: one.arrival):
        log.event(one.modality, one.start, one.end, arrival=one.arrival, source=one.source, session=one.session)
    return log


def ordinary() -> Outcome:
    """A minute as it should be."""
    return played(written(street(0, 60)))


def shuffled() -> Outcome:
    """Every record comes up to 100 s late (the horizon is 120 s), in any order."""
    random = Random(7)
    return played(written([Said(one.arrival + random.uniform(0, 100), *_rest(one)) for one in street(0, 60)]))


def thrice() -> Outcome:
    """Every record three times, the third one a minute later."""
    once = street(0, 60)
    return played(written([Said(one.arrival + delay, *_rest(one)) for one in once for delay in (0, 0.2, 60)]))


def ten_minutes_late() -> Outcome:
    """One minute's words come ten minutes late."""
    said = street(0, 720)
    return played(written([Said(o.arrival + 600 if o.modality is TRANSCRIPTS and o.start < 60 else o.arrival, *_rest(o)) for o in said]))


def one_silent() -> Outcome:
    """The camera dies after 20 s of 60."""
    return played(written([one for one in street(0, 60) if one.modality is not FRAMES or one.start < 20]))


def all_silent() -> Outcome:
    """Twenty seconds, half a minute of nothing, twenty seconds more."""
    return played(written(street(0, 20) + street(50, 20)))


def an_hour_behind() -> Outcome:
    """A second camera's clock is an hour behind."""
    return played(written(street(0, 60) + [Said(n, FRAMES, n - 3_600, n - 3_600, source="wrong") for n in range(60)]))


def an_hour_ahead() -> Outcome:
    """A second camera's clock is an hour ahead."""
    return played(written(street(0, 60) + [Said(n, FRAMES, n + 3_600, n + 3_600, source="wrong") for n in range(60)]))


def buffered() -> Outcome:
    """A second camera comes back after 40 s and sends its buffered frames at once, then goes on."""
    late = [Said(40 + n / 100, FRAMES, n, n, source="two") for n in range(40)]
    return played(written(street(0, 60) + late + [Said(n, FRAMES, n, n, source="two") for n in range(41, 60)]))


def backlog(seconds: int = 3_600) -> Outcome:
    """An hour's backlog, read topic by topic in bites of 500, with a camera that died after a sixth of it."""
    dead = [Said(n, FRAMES, n, n, source="two") for n in range(seconds // 6)]
    driver = Driver(written(street(0, seconds) + dead), DEFAULTS, live=False)
    return finished(driver, 500)


def replayed() -> Outcome:
    """Old topics are read again by a new owner, all topics far apart: a whole topic before the next."""
    driver = Driver(written(street(0, 300)), DEFAULTS, live=False)
    driver.now = at(86_400)
    for modality in (TRANSCRIPTS, AUDIO, FRAMES):
        driver.read(modality, 10_000)
        driver.tick()
    return finished(driver, 100)


def many(sessions: int = 10_000) -> Outcome:
    """Three seconds of ten thousand places, all in one partition."""
    said = [one for n in range(sessions) for one in street(n / sessions, 3, session=f"place-{n}")]
    log, random = written(said), Random(3)
    driver = Driver(log, DEFAULTS, live=False)
    driver.now = at(10)
    for begin in range(0, len(said), 30_000):
        for modality in Modality:
            driver.read(modality, 10_000 if begin + 30_000 < len(said) else len(said))
        driver.tick()
    driver.now = at(60)
    driver.tick()
    some = {f"place-{random.randrange(sessions)}" for _ in range(20)}
    alone = Log()
    for item in log.all:
        if item.track.session in some:
            alone._append(item)
    wanted = {(session, start): {ref.id for ref in refs} for (session, start), refs in reference(alone, DEFAULTS).items()}
    found = {key: {ref.id for ref in refs} for key, refs in final(driver.windows).items() if key[0] in some}
    windows = [record for record in driver.windows if isinstance(record, Window)]
    first = sum(window.revision == 0 for window in windows)
    return Outcome(
        records=len(log.all),
        windows=first,
        revisions=len(windows) - first,
        late=len(driver.late),
        dead=len(driver.rejected),
        duplicates=driver.aligner.tally.duplicates.total(),
        idle=Counter(record.why for record in driver.windows if isinstance(record, SessionMark))[Silence.IDLE],
        as_it_should=wanted == found and not driver.aligner.tally.open_windows,
    )


CASES: dict[str, Callable[[], Outcome]] = {
    "a minute as it should be": ordinary,
    "shuffled within the horizon": shuffled,
    "every record three times": thrice,
    "words ten minutes late": ten_minutes_late,
    "one modality falls silent": one_silent,
    "all silent, then again": all_silent,
    "a camera an hour behind": an_hour_behind,
    "a camera an hour ahead": an_hour_ahead,
    "a camera back with buffered frames": buffered,
    "an hour's backlog, a dead camera in it": backlog,
    "old topics read again, one by one": replayed,
    "10,000 sessions in one partition": many,
}


def played(log: Log) -> Outcome:
    """As it comes to be, in bites of five records, time passing in between; checkpointed after each, with a crash in the middle."""
    driver = Driver(log, DEFAULTS)
    while driver.appended < len(log.all):
        if log.all[driver.appended].arrival - driver.now > DEFAULTS.idle:
            driver.now = Micros(driver.now + DEFAULTS.idle)
        else:
            if len(log.all) // 2 in range(driver.appended, driver.appended + 5):
                driver.resume()
            driver.append(5)
        for modality in Modality:
            driver.read(modality, len(log.all))
        driver.tick()
        driver.checkpoint()
    return finished(driver, 5)


def finished(driver: Driver, step: int) -> Outcome:
    """Read the rest, then let time pass."""
    for _ in driver.drain(step):
        driver.checkpoint()
    return Outcome.of(driver)


def _rest(one: Said) -> tuple[Modality, float, float, str, str]:
    return one.modality, one.start, one.end, one.source, one.session

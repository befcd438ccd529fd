"""From a seed to a schedule: what the producers write and when, and what happens to the workers meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from streamer.config import AlignSettings
from streamer.events import SECOND, AudioChunk, Frame, Message, Micros, Modality, Pace, SessionId, Track, Transcript, Words
from streamer.ids import partition_of
from streamer.stages.envelope import write_audio, write_frame, write_mark, write_transcript
from tests.simulator.broker import Fault
from tests.simulator.steps import Append, Crash, Notice, Read, Rebalance, Retain, Save, Step, Wait
from tests.stages.align_streams import FRAMES, NOON, SETTINGS, TRANSCRIPTS, at

PARTITIONS = 2
LIVE = (SessionId("hall"), SessionId("gate"), SessionId("yard"))
TAPE = SessionId("tape")
WORKERS = {"align": ("A", "B"), "infer": ("I", "J"), "decide": ("D", "E")}
RANDOM_SETTINGS = {
    "length": (1, 2, 2, 3),
    "hop": (1, 1, 2),
    "bound_frames": (0, 0.3, 0.3, 1),
    "bound_audio": (0.3, 0.3, 1),
    "patience": (1, 3, 3),
    "horizon": (6, 10, 10, 20),
    "idle": (1, 3, 3, 5),
}


@dataclass(frozen=True)
class Schedule:
    """All that a run depends on. `ahead`: by how much each worker's clock is wrong; `gaps`: retention may overtake.

    A recording may lack a modality that is expected of it: then it ends only when it is given up. `mixed`: decide's workers have
    different rules, as while a deployment is under way.
    """

    seed: int
    settings: AlignSettings
    expected: dict[SessionId, tuple[Modality, ...]]
    ahead: dict[str, int]
    gaps: bool
    steps: tuple[Step, ...]
    mixed: bool = False


def generate(seed: int, *, records: int = 45) -> Schedule:
    """The schedule of this seed: always the same."""
    random = Random(seed)
    mixed = Random(-1 - seed).random() < 0.15
    gaps = random.random() < 0.1
    settings = any_settings(random)
    written = list(writes(random, random.randint(1, records), tape=not gaps and random.random() < 0.5))
    steps = tuple(_mixed(random, written, calm=random.random() < 0.1, gaps=gaps))
    steps += tuple(_afterwards(random, at((written[-1].arrival - NOON) / SECOND))) if mixed else ()
    tape = tuple(modality for modality in Modality if any(w.message.topic == modality and w.message.key == b"tape" for w in written))
    expected = {LIVE[0]: tuple(m for m in Modality if random.random() < 0.3), TAPE: tape}
    ahead = {name: random.choice((0, 0, -SECOND // 2, SECOND // 2)) for names in WORKERS.values() for name in names}
    if random.random() < 0.15:
        expected[TAPE] = tuple(Modality)
    return Schedule(seed, settings, expected, ahead, gaps, steps, mixed)


def any_settings(random: Random) -> AlignSettings:
    """The tests' settings with some of them drawn."""
    drawn = {name: Micros(round(random.choice(values) * SECOND)) for name, values in RANDOM_SETTINGS.items() if random.random() < 0.5}
    if drawn.get("hop", SETTINGS.hop) > drawn.get("length", SETTINGS.length):
        drawn["hop"] = drawn.get("length", Micros(SETTINGS.length))
    wait_for = random.choice((SETTINGS.wait_for, SETTINGS.wait_for, tuple(Modality), (FRAMES,)))
    crowd = random.choice((SETTINGS.max_events, SETTINGS.max_events, 5, 12))  # below what a file may say: few events suffice here
    return SETTINGS.model_copy(update={**drawn, "wait_for": wait_for, "max_events": crowd})


# what the producers do


def writes(random: Random, count: int, *, tape: bool) -> Iterator[Append]:
    """What the producers write, in the order of the log; a recorded session ends with the end of all its tracks."""
    clock, written = 0.0, list[Append]()
    while len(written) < count:
        kind = random.choices(
            ("event", "again", "mark", "end", "stepped back", "malformed", "stray", "buffered"), (70, 8, 6, 3, 6, 2, 1, 3)
        )[0]
        clock += random.choice((0, 1, 2, 3, 5, 5, 10, 40, 150)) / 10
        arrival = at(clock - 1 if kind == "stepped back" else clock)
        if kind == "again" and written:
            written.append(replace(random.choice(written), arrival=arrival))
        elif kind == "buffered":
            written += _buffered(random, clock, arrival)
        else:
            written.append(_write(random, kind, clock, arrival, tape=tape))
    yield from (one for one in written[:count] if not (one.kind == "end" and one.message.key == b"tape"))
    for topic, source in sorted({(w.message.topic, dict(w.message.headers).get("ce_source")) for w in written if w.message.key == b"tape"}):
        track = Track(session=TAPE, modality=Modality(topic), source=(source or b"one").decode())
        yield Append(at(clock), write_mark(track, at(clock), final=True, pace=Pace.RECORDED), "end")


def _write(random: Random, kind: str, clock: float, arrival: Micros, *, tape: bool) -> Append:
    modality = random.choice((FRAMES, FRAMES, Modality.AUDIO, Modality.AUDIO, TRANSCRIPTS))
    session = TAPE if tape and random.random() < 0.25 else random.choice((LIVE[0], LIVE[0], *LIVE))
    source = random.choice(("one", "one", "two"))
    pace = Pace.RECORDED if session == TAPE else Pace.LIVE
    delay = random.choice((0, 0, 1, 3, 8, 20, 60, 99, 110, -15, -40)) / 10
    end = at(round((arrival - NOON) / SECOND - delay, 1))
    if kind in ("mark", "end"):
        track = Track(session=session, modality=modality, source=source)
        return Append(arrival, write_mark(track, end, final=kind == "end", pace=pace), kind)
    length = 0.0 if modality is FRAMES else random.randint(0, 12) / 10
    message = an_event(modality, session, source, Micros(end - round(length * SECOND)), end, pace)
    if kind == "malformed":
        message = replace(message, headers=tuple(header for header in message.headers if header[0] != "ce_time"))
    elif kind == "stray":
        message = replace(message, partition=1 - partition_of(message.key, PARTITIONS))
    return Append(arrival, message, kind)


def _buffered(random: Random, clock: float, arrival: Micros) -> Iterator[Append]:
    """A camera that appears late, with what it saw meanwhile."""
    session = random.choice(LIVE)
    for back in range(random.randint(2, 4), -1, -1):
        when = at(round(clock - 0.7 * back, 1))
        yield Append(arrival, an_event(FRAMES, session, "late", when, when, Pace.LIVE), "buffered")


def an_event(modality: Modality, session: SessionId, source: str, start: Micros, end: Micros, pace: Pace) -> Message:
    """One record with content."""
    if modality is FRAMES:
        return write_frame(Frame(session=session, source=source, at=start, image=b"picture", pace=pace))
    if modality is TRANSCRIPTS:
        words = Words(text="help", confidence=1.0, language="en")
        return write_transcript(Transcript(session=session, source=source, start=start, end=end, words=words, pace=pace))
    return write_audio(AudioChunk(session=session, source=source, start=start, end=end, sound=b"sound", pace=pace))


# what happens to the workers


def _mixed(random: Random, written: list[Append], *, calm: bool, gaps: bool) -> Iterator[Step]:
    """The writes in their order, and between them whatever else happens. A backlog: all of them first."""
    backlog = random.random() < 0.25
    waiting = list(reversed(written))
    while waiting:
        for _ in range(len(waiting) if backlog else random.randint(1, 6)):
            if waiting:
                yield waiting.pop()
        for _ in range(random.randint(0, 60 if backlog else 5)):
            yield _step(random, calm=calm)
        if random.random() < 0.1 and waiting and not backlog:
            yield Wait(Micros(waiting[-1].arrival + random.choice((-3, -1, 0, 0)) * SECOND))
        if gaps and random.random() < 0.15:
            yield Retain(random.choice(tuple(Modality)).value, random.randrange(PARTITIONS), random.randint(0, 4))


def _afterwards(random: Random, last: Micros) -> Iterator[Step]:
    """Windows come out and are scored while decide's workers come and go; what they save may come late."""
    for minute in range(1, 4):
        yield Wait(Micros(last + minute * 60 * SECOND))
        for _ in range(30):
            step = _step(random, calm=False, roles=(3, 3, 6))
            late = isinstance(step, Save) and step.role == "decide" and random.random() < 0.3
            yield replace(step, fault=Fault("late", random.choice((0, 0, 1, 2, 3)))) if late else step


def _step(random: Random, *, calm: bool, roles: Sequence[int] = (6, 2, 2)) -> Step:
    role = random.choices(tuple(WORKERS), roles)[0]
    worker = random.choice(WORKERS[role])
    what = random.choices(("read", "save", "crash", "rebalance", "notice"), (60, 12, 0 if calm else 3, 0 if calm else 4, 3))[0]
    fault = None
    if not calm and random.random() < 0.12:
        fault = Fault(random.choice(("crash", "crash", "lost")), random.choice((0, 0, 1, 1, 2, 3, 5, 8)))
    if what == "save":
        return Save(role, worker, fault)
    if what == "crash":
        return Crash(role, worker)
    if what == "notice":
        return Notice(role, worker, random.random() < 0.5)
    if what == "rebalance":
        owners = tuple(random.choice(WORKERS[role]) for _ in range(PARTITIONS))
        return Rebalance(role, owners, frozenset(name for name in WORKERS[role] if random.random() < 0.35))
    topics = {"align": [m.value for m in Modality], "infer": ["windows"], "decide": ["scores"]}[role]
    counts = {topic: random.choice((0, 1, 2, 3, 5, 9, 9)) for topic in topics}
    return Read(role, worker, counts, random.randrange(6), fault)

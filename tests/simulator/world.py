"""The world of one schedule: a broker, two workers of each role, and whatever the steps do to them. Then a fair end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from streamer.agents.align import TOPICS, Aligning
from streamer.agents.decide import Deciding
from streamer.config import Config, KafkaSettings
from streamer.events import SECOND, Micros, Record, SessionMark
from streamer.metrics import Metrics
from streamer.stages.wire import read_alert, read_window
from tests.simulator.broker import Broker, Door
from tests.simulator.outcome import Outcome, config_of, decider_of
from tests.simulator.schedule import PARTITIONS, WORKERS, Schedule
from tests.simulator.steps import Append, Crash, Notice, Read, Rebalance, Retain, Save, Step, Wait, clock
from tests.simulator.workers import SCORES, Host, Scorer
from tests.stages.align_streams import NOON

METRICS = {stage: Metrics(stage) for stage in ("align", "decide")}
STEP = 7  # records that a worker reads at a time, at the end
AlignerOf = Callable[[Config, Door], Aligning]


def aligning(config: Config, door: Door) -> Aligning:
    """align's state as it ships."""
    return Aligning(config=config, producer=door, metrics=METRICS["align"])  # type: ignore[arg-type]


class World(Outcome):
    """Plays a schedule. `story`: what happened, in words, when asked for; `count`: how much of what."""

    def __init__(self, schedule: Schedule, *, tell: bool = False, build: AlignerOf = aligning) -> None:
        super().__init__(schedule, Broker(PARTITIONS, NOON))
        config = config_of(schedule, KafkaSettings(bootstrap="simulated:1", partitions=PARTITIONS))
        self.owners = {role: (names[0],) * PARTITIONS for role, names in WORKERS.items()}
        for name in WORKERS["align"]:
            self.workers[name] = Host(name, "align", TOPICS, self.broker, lambda door: build(config, door), schedule.ahead[name])
        for name in WORKERS["infer"]:
            self.workers[name] = Scorer(name, self.broker, self._owns)
        for name in WORKERS["decide"]:
            self.workers[name] = Host(name, "decide", (SCORES,), self.broker, partial(self._deciding, config, name), schedule.ahead[name])
        self.story: list[str] | None = [] if tell else None
        self.count = Counter[str]()

    def _deciding(self, config: Config, name: str, door: Door) -> Deciding:
        decider = decider_of(self.schedule, name)
        return Deciding(config=config, producer=door, metrics=METRICS["decide"], decider=decider)  # type: ignore[arg-type]

    def play(self) -> World:
        """All steps, then the end."""
        for step in self.schedule.steps:
            self.do(step)
        self.finish()
        return self

    def do(self, step: Step) -> None:
        """One step."""
        self.count[type(step).__name__.lower()] += 1
        if self.story is not None:
            self.story.append(step.words())
        if isinstance(step, Append):
            self.broker.append(step.message, step.arrival)
            self.broker.now = max(self.broker.now, step.arrival)
        elif isinstance(step, Wait):
            self.broker.now = max(self.broker.now, step.until)
        elif isinstance(step, Retain):
            place = step.topic, step.partition
            self.broker.first[place] = max(self.broker.first[place], self.broker.end(place) - step.keep)
        elif isinstance(step, Rebalance):
            self._rebalance(step)
        elif isinstance(step, Crash):
            self.workers[step.worker].crash()
        elif isinstance(step, Notice):
            self._notice(step.worker, save=step.save)
        else:
            self._work(step)

    def _work(self, step: Read | Save) -> None:
        worker = self._awake(step.worker)
        if zombie := bool(set(worker.numbers) - set(self._given(step.worker))):
            self.count["zombie steps"] += 1
        if isinstance(step, Save):
            said = worker.save(step.fault) if isinstance(worker, Host) else ""
        elif isinstance(worker, Host):
            said = worker.step(step.counts, step.order, step.fault)
        else:
            said = worker.step(step.counts["windows"], step.fault)
        self.count["crash"] += not worker.alive
        self._told(worker, said, zombie=zombie)

    def _told(self, worker: Host | Scorer, said: str, *, zombie: bool = False) -> None:
        written = worker.written()
        self.count["zombie writes"] += zombie * len(written)
        if self.story is None:
            return
        lines = [line for record in written if (line := _shown(record))]
        self.story += [f"    {worker.name} writes {line}" for line in lines] + ([f"    {said}"] if said else [])

    def _awake(self, name: str) -> Host | Scorer:
        worker = self.workers[name]
        if not worker.alive:
            worker.start(self._given(name))
        return worker

    def _given(self, name: str) -> tuple[int, ...]:
        role = next(role for role, names in WORKERS.items() if name in names)
        return tuple(number for number, owner in enumerate(self.owners[role]) if owner == name)

    def _owns(self, name: str, number: int) -> bool:
        return number in self._given(name)

    def _rebalance(self, step: Rebalance) -> None:
        """Everybody who takes part lets go of all before anybody gets something."""
        self.owners[step.role] = step.owners
        awake = [self.workers[name] for name in WORKERS[step.role] if name not in step.asleep and self.workers[name].alive]
        self.slept = self.slept or bool(step.asleep)
        for worker in awake:
            worker.let_go()
            self._told(worker, "")
        for worker in awake:
            worker.start(self._given(worker.name))
            self._told(worker, "")

    def _notice(self, name: str, *, save: bool) -> None:
        worker = self.workers[name]
        if worker.alive and worker.numbers != self._given(name):
            worker.let_go(save=save)
            worker.start(self._given(name))
            self._told(worker, "")

    # the end

    def finish(self) -> None:
        """Everybody learns what is theirs, everything is read, and time passes until all is silent and forgotten."""
        if self.story is not None:
            self.story.append("in the end all workers know what is theirs, everything is read, and time passes")
        for role, names in WORKERS.items():
            for name in names:
                self._notice(name, save=role != "infer")
                self._awake(name)
        self._round(WORKERS)
        silent = self.settings.session_end + self.settings.skew
        for wait in (*[self.settings.idle] * 2, *[silent] * 3, self.settings.recorded_span, silent):
            self.broker.now = Micros(self.broker.now + wait + SECOND)
            self._round(("align",))
        self._round(WORKERS)

    def _round(self, roles: Iterable[str]) -> None:
        """Each worker reads all there is, hears that there is no more, and saves."""
        for role in roles:
            topics = {"align": TOPICS, "infer": ("windows",), "decide": (SCORES,)}[role]
            for name in WORKERS[role]:
                worker, left = self.workers[name], True
                while left:
                    left = self._left(worker, topics)
                    self._work(Read(role, name, dict.fromkeys(topics, STEP)))
                self._work(Save(role, name))

    def _left(self, worker: Host | Scorer, topics: Sequence[str]) -> bool:
        position = worker.position
        return any(position[topic, number] < self.broker.end((topic, number)) for topic in topics for number in worker.numbers)


def _shown(record: Record) -> str:
    if record.topic == "windows":
        told = read_window(record)
        if isinstance(told, SessionMark):
            return f"that `{told.session}` is silent ({told.why.value}) at {clock(told.at)}"
        events = ", ".join(f"{ref.modality.value} {clock(ref.start)}" for ref in told.manifest)
        return f"window [{clock(told.start)}, {clock(told.end)}) of `{told.session}`, revision {told.revision}: {events}"
    if record.topic == "alerts":
        alert = read_alert(record)
        return f"alert {alert.rule} of `{alert.session}`: {alert.state.value}, [{clock(alert.start)}, {clock(alert.end)})"
    if record.topic in ("late", "deadletter"):
        return f"a record to `{record.topic}`"
    return ""

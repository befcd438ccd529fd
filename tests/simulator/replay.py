"""A schedule on a real broker: real workers are killed, frozen, added and sent away as it says, at its pace, and `checks.py` judges.

What differs from the simulator: the broker says when a record arrives, so timestamps do not step back, and all clocks are right; a
worker reads and saves by itself, so `Read` and `Save` only see to it that it runs, and strike it; who gets which partition is the
group's choice, and every second seed's workers have lasting names; a worker that is not to know of a rebalance is stopped (SIGSTOP)
for longer than its session lasts. infer is a plain loop that never fails. Laws 5 and 6 of the checks look inside the workers:
here the end waits for the checkpoints to be at the ends of their logs, and the last word on each session must be that it is silent.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from streamer.agents.align import TOPICS
from streamer.agents.decide import Checkpoint as DecideCheckpoint
from streamer.config import KafkaSettings
from streamer.errors import Transient
from streamer.events import SECOND, Headers, Micros, Record, SessionMark
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.topics import create_topics
from streamer.stages.times import format_time, parse_time
from streamer.stages.wire import read_window, write_scores, write_silence
from tests.faults.place import fresh
from tests.faults.processes import Child
from tests.kafka.apache import delete_before
from tests.simulator.broker import Broker, Fault
from tests.simulator.checks import failures
from tests.simulator.outcome import Outcome
from tests.simulator.schedule import PARTITIONS, WORKERS, Schedule, generate
from tests.simulator.steps import Append, Crash, Notice, Read, Rebalance, Retain, Save, Step, Wait
from tests.simulator.worker import arm
from tests.simulator.workers import judged
from tests.stages.align_streams import NOON

ROLES = ("align", "decide")
OUTPUTS = ("windows", "late", "deadletter", "scores", "alerts", "checkpoints")
LONGEST_START = 90.0  # seconds until a worker that was started works
STRUCK = 2.0  # seconds in which a worker that is to be struck while it writes has written something, or nothing is to be written
LONGEST_END = 90.0  # seconds until all is read, silent and forgotten
LOOK = 0.5  # seconds
SLACK = 3.0  # seconds between two looks of a worker, a batch, a write: together less than this


class Replay:
    """One schedule on one broker. `count`: how much of what happened to the workers."""

    def __init__(self, schedule: Schedule, kafka: KafkaSettings, folder: Path, *, records: int) -> None:
        self.schedule, self.kafka, self.folder = schedule, Kafka(kafka), folder
        self.static = schedule.seed % 2 == 0
        self.count = Counter[str]()
        self.outcome = Outcome(schedule, Broker(PARTITIONS, NOON))
        self.members = {role: {WORKERS[role][0]} for role in ROLES}
        self._records = records
        self._children: dict[str, Child] = {}
        self._frozen: dict[str, float] = {}
        self._base = Micros((time.time_ns() // 1_000 // SECOND + 1) * SECOND)
        self._scored = [0] * PARTITIONS
        self._doomed = set[str]()  # killed, sent away, or to be struck

    async def play(self) -> Outcome:
        """All steps, then the end. Raises AssertionError where a worker ends by itself or the end does not come."""
        await create_topics(self.kafka)
        async with AsyncExitStack() as stack:
            stack.callback(self._kill_all)
            self._producer = await stack.enter_async_context(Producer(self.kafka))
            self._reader = await stack.enter_async_context(LogReader(self.kafka))
            self._scores = await stack.enter_async_context(LogReader(self.kafka))
            self._scoring = asyncio.create_task(self._score_for_ever())
            stack.callback(self._scoring.cancel)
            for step in self.schedule.steps:
                self._look()
                await self._do(step)
            await self._finish()
            for topic in OUTPUTS:
                await self._read(topic)
        self.outcome.broker.order |= _order(self.outcome.broker.logs)
        return self.outcome

    # steps

    async def _do(self, step: Step) -> None:
        self.count[type(step).__name__.lower()] += 1
        if isinstance(step, Append):
            await self._until(step.arrival)
            await self._append(step)
        elif isinstance(step, Wait):
            await self._until(step.until)
        elif isinstance(step, Retain):
            await self._retain(step)
        elif step.role in ROLES:
            await self._work(step)

    async def _work(self, step: Read | Save | Crash | Rebalance | Notice) -> None:
        if isinstance(step, Rebalance):
            await self._rebalance(step)
        elif isinstance(step, Crash):
            if await self._works(step.worker):
                self._doomed.add(step.worker)
                self._children[step.worker].kill()
                self.count["killed"] += 1
        elif step.worker in self.members[step.role] and self._awake(step.worker):
            self._start(step.role, step.worker)
            if not isinstance(step, Notice) and step.fault is not None and await self._works(step.worker):
                await self._strike(step.worker, step.fault)

    async def _strike(self, name: str, fault: Fault) -> None:
        self._doomed.add(name)
        file = self._file(name, ".fault")
        arm(file, fault)
        deadline = time.monotonic() + STRUCK
        while file.exists() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK / 10)
        self.count["struck"] += not file.exists()

    async def _works(self, name: str) -> bool:
        """Whether it runs; then it is past its start when this returns."""
        deadline = time.monotonic() + LONGEST_START
        while self._alive(name) and name not in self._frozen and not self._file(name, ".ready").exists():
            assert time.monotonic() < deadline, f"{name} does not start:\n{self._children[name].tail()}"
            await asyncio.sleep(LOOK / 10)
        return self._alive(name)

    async def _rebalance(self, step: Rebalance) -> None:
        for name in WORKERS[step.role]:
            if name in step.asleep and self._alive(name):
                if name not in self._frozen and await self._works(name):
                    self._children[name].send(signal.SIGSTOP)
                    self._frozen[name] = time.monotonic()
                    self.outcome.slept = True
                    self.count["frozen"] += 1
            elif name not in step.owners and self._awake(name) and await self._works(name):
                self._doomed.add(name)
                code = await asyncio.to_thread(self._children[name].end)
                assert code in (0, -signal.SIGKILL), f"{name} was sent away and ended with {code}:\n{self._children[name].tail()}"
                self.count["left"] += 1
        self.members[step.role] = set(step.owners)
        for name in self.members[step.role]:
            if self._awake(name):
                self._start(step.role, name)

    def _start(self, role: str, name: str) -> None:
        if self._alive(name):
            return
        self._file(name, ".ready").unlink(missing_ok=True)
        if name in self._children:
            self._children[name].start()
        else:
            settings = self.kafka.settings.model_copy(update={"instance": name if self.static else None})
            what = [role, str(self.schedule.seed), str(self._records), settings.model_dump_json(), str(self._file(name))]
            self._children[name] = Child(name, [sys.executable, "-m", "tests.simulator.worker", *what], self.folder)
        self.count["started"] += 1

    def _file(self, name: str, kind: str = "") -> Path:
        return self.folder / f"{name}{kind}"

    def _alive(self, name: str) -> bool:
        return name in self._children and self._children[name].code is None

    def _awake(self, name: str) -> bool:
        """Whether it runs, or may; one that was frozen goes on once the group has given it up."""
        if not self._alive(name):
            self._frozen.pop(name, None)
        elif name in self._frozen and time.monotonic() - self._frozen[name] > self.kafka.settings.session_timeout / SECOND + 1:
            self._children[name].send(signal.SIGCONT)
            del self._frozen[name]
        return name not in self._frozen

    def _look(self) -> None:
        """Nobody may have ended by himself."""
        assert not self._scoring.done(), f"scoring ended: {self._scoring.exception()!r}"
        for name, child in self._children.items():
            fine = child.code is None or (name in self._doomed and child.code in (0, -signal.SIGKILL))
            assert fine, f"{name} ended with {child.code}:\n{child.tail()}"

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()

    # what is written

    async def _until(self, at: Micros) -> None:
        await asyncio.sleep(max(0.0, (self._now(at) - time.time_ns() // 1_000) / SECOND))

    def _now(self, at: Micros) -> Micros:
        """A time of the schedule as a time of today."""
        return Micros(at - NOON + self._base)

    async def _append(self, step: Append) -> None:
        message = replace(step.message, headers=self._headers(step.message.headers))
        [at] = await self._producer.send([message])
        record = self.outcome.broker.append(replace(message, partition=at.partition), Micros(at.arrival))
        assert record.offset == at.offset, f"somebody else writes to {step.message.topic}"

    def _headers(self, headers: Headers) -> Headers:
        times = ("ce_time", "ce_endtime")
        return tuple((name, format_time(self._now(parse_time(value))).encode() if name in times else value) for name, value in headers)

    async def _retain(self, step: Retain) -> None:
        place = step.topic, step.partition
        broker = self.outcome.broker
        if (first := broker.end(place) - step.keep) > broker.first[place]:
            await delete_before(self.kafka, self.kafka.partition(*place), first)
            broker.first[place] = first

    async def _score_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            with suppress(Transient):
                await self._score()

    async def _score(self) -> None:
        """infer in small: one score for each window, in order."""
        for number in range(PARTITIONS):
            found = [record async for record in self._scores.read("windows", self._scored[number], partition=number)]
            told = [read_window(record) for record in found]
            scores = [write_silence("scores", one) if isinstance(one, SessionMark) else write_scores(judged(one)) for one in told]
            await self._producer.send(scores)
            self._scored[number] += len(found)

    # the end

    async def _finish(self) -> None:
        """Everybody works until all is read; then all fall silent, and what is said of that is read as well."""
        for name in self._children:
            self._file(name, ".fault").unlink(missing_ok=True)
        await self._settle()
        await asyncio.sleep(2 * self.schedule.settings.idle / SECOND + SLACK)
        await self._settle()
        for name, child in self._children.items():
            if await self._works(name):
                code = await asyncio.to_thread(child.end)
                assert code == 0, f"{name} ended with {code}:\n{child.tail()}"

    async def _settle(self) -> None:
        deadline = time.monotonic() + LONGEST_END
        while True:
            self._look()
            for role in ROLES:
                for name in WORKERS[role]:
                    if self._awake(name) and name in self.members[role]:
                        self._start(role, name)
            if not (left := await self._left()) and not self._frozen:
                return
            assert time.monotonic() < deadline, f"{left} after {LONGEST_END:.0f} s, {self._logs()}"
            await asyncio.sleep(LOOK)

    async def _left(self) -> str:
        """What is still to be read by somebody. Input of which a window may still have to know is not read, as align's checkpoint says."""
        for number in range(PARTITIONS):
            saved = await checkpoints.fold("align", self._reader.read("checkpoints", 0, partition=number))
            inputs = checkpoints.decode(saved[""]).inputs if "" in saved else {}
            for topic in TOPICS:
                end = self.outcome.broker.end((topic, number))
                if (at := inputs[topic].offset if topic in inputs else 0) < end:
                    return f"{topic}/{number} is held from {at} of {end}"
            end = [record.offset + 1 async for record in self._reader.read("windows", 0, partition=number)][-1:]
            if end and end[0] > self._scored[number]:
                return f"windows/{number} is scored up to {self._scored[number]} of {end[0]}"
            if line := await self._undecided(number):
                return line
        return ""

    async def _undecided(self, number: int) -> str:
        scores = [record async for record in self._reader.read("scores", 0, partition=number)]
        saved = await checkpoints.fold("decide", self._reader.read("checkpoints", 0, partition=number))
        at = msgspec.json.decode(saved[""], type=DecideCheckpoint).offset if "" in saved else 0
        end = scores[-1].offset + 1 if scores else 0
        return f"scores/{number} is judged up to {at} of {end}" if at < end else ""

    def _logs(self) -> str:
        return "\n".join(f"{name}: {child.tail()}" for name, child in self._children.items())

    async def _read(self, topic: str) -> None:
        """The log as it is, for the checks."""
        for number in range(PARTITIONS):
            found = [record async for record in self._reader.read(topic, 0, partition=number)]
            log = self.outcome.broker.logs[topic, number]
            log += found
            whole = topic == "checkpoints" or [record.offset for record in log] == list(range(len(log)))
            assert whole, f"{topic}/{number} has offsets without a record"


async def replayed(seed: int, address: str, folder: Path, *, records: int) -> tuple[Counter[str], str]:
    """Replay one schedule: how much of what, and what is wrong ("" when nothing is)."""
    where = folder / f"seed{seed}"
    where.mkdir()
    schedule = generate(seed, records=records)
    replay = Replay(schedule, fresh(address).model_copy(update={"partitions": PARTITIONS}), where, records=records)
    try:
        outcome = await replay.play()
    except AssertionError as exc:
        return replay.count, str(exc) or repr(exc)
    logs = outcome.broker.logs
    counted = Counter({topic: sum(len(log) for place, log in logs.items() if place[0] == topic) for topic in {place[0] for place in logs}})
    counted += Counter({"with gaps": schedule.gaps, "with zombies": outcome.slept, "with lasting names": replay.static})
    return replay.count + counted, "; ".join([*failures(outcome), *unsaid(outcome)])


def unsaid(outcome: Outcome) -> list[str]:
    """Sessions whose last record is not that they are silent."""
    last = {one.session: one for one in outcome.windows()}
    return [f"nobody says that `{name}` is silent" for name, one in last.items() if not isinstance(one, SessionMark)]


def _order(logs: Mapping[tuple[str, int], list[Record]]) -> dict[tuple[str, int, int], int]:
    """How many records stood before, by the broker's clock; of one millisecond windows come first."""
    found = [record for log in logs.values() for record in log]
    found.sort(key=lambda record: (record.arrival, record.topic != "windows", record.topic, record.partition, record.offset))
    return {(record.topic, record.partition, record.offset): place for place, record in enumerate(found)}

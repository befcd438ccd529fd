"""decide: scores in, alerts out, in a Faust agent fed by the source. One record at a time, so that a replay says the same.

State: one record per session in `checkpoints`, written before the checkpoint that commits it. The checkpoint names each
session's offset, so a session record that is older (a replaced worker wrote it) is noticed, and its scores are read again; and the
end of `alerts`: what stands behind it at a restart, or was written by another until the next checkpoint, is taken over
(`Decider.adopt`), unless these rules sent it: then its scores say it again, and until they have, no checkpoint passes it. Each
session's record names its own end: a replaced worker's knows less of that session's alerts than the checkpoint says.
A session is forgotten `Decider.keeps` (of arrival time) after its last record; what it left open is resolved first. Its record goes one
checkpoint later: until none names it, a restart needs to know what it had said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import structlog

from streamer.agents.host import host
from streamer.config import Config
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import Alert, Headers, Message, Micros, Record, Scores, SessionId
from streamer.ids import partition_of
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.stateful import Batch, Position, ReadLog
from streamer.metrics import Metrics
from streamer.rules import load_rules
from streamer.runtime import Runtime
from streamer.stages.decide import Decider, DecideSettings, checked
from streamer.stages.headers import TRACEPARENT
from streamer.stages.wire import dead_letter, read_alert, read_scores, write_alert, write_deadletter

log = structlog.get_logger()

STAGE, SCORES, ALERTS = "decide", "scores", "alerts"


class Checkpoint(msgspec.Struct, frozen=True):
    """One partition: where to read on, the arrival clock before that, and the last applied offset of each session.

    `alerts`: what that partition of `alerts` has before this is known; None: an older version wrote this, and did not say.
    `mixed`: of what these rules sent and did not say again yet, some may have to be taken over like what others sent.
    """

    offset: int
    clock: int
    sessions: dict[str, int]
    alerts: int | None = None
    mixed: bool = False


@dataclass(slots=True)
class Deciding:
    """The state behind the source (`Stateful`). `pending` is what a failed write still owes; `changed` is not yet saved.

    `ends`: up to where each partition of `alerts` was read or written; of None, from its next checkpoint on. `logs` reads them.
    `expected`: what stands there by these rules and was not said again yet, with its offset; `mixed`: partitions where others'
    alerts, or states, were taken over. `gone`: sessions that no checkpoint names any more, whose records go with the next one.
    """

    config: Config
    producer: Producer
    metrics: Metrics
    decider: Decider
    homes: dict[SessionId, int] = field(default_factory=dict)
    changed: set[SessionId] = field(default_factory=set)
    clocks: dict[int, Micros] = field(default_factory=dict)
    logs: dict[int, ReadLog] = field(default_factory=dict)
    ends: dict[int, int | None] = field(default_factory=dict)
    expected: dict[int, dict[tuple[str, int], tuple[int, Alert]]] = field(default_factory=lambda: defaultdict(dict))
    mixed: set[int] = field(default_factory=set)
    gone: dict[int, set[SessionId]] = field(default_factory=lambda: defaultdict(set))
    pending: list[Message] = field(default_factory=list)
    mute: set[str] = field(default_factory=set)
    told: tuple[int, int] = (0, 0)

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Take over the sessions' states; where one is older than the checkpoint says, read from there."""
        self.logs[partition], self.ends[partition] = read, 0
        if "" not in saved:
            await self._take_over(partition, {})
            return {}
        checkpoint = msgspec.json.decode(saved[""], type=Checkpoint)
        offset = checkpoint.offset
        sessions = [self._take(name, value) for name, value in saved.items() if name]
        self.homes |= dict.fromkeys(sessions, partition)
        for name, applied in checkpoint.sessions.items():
            have = self.decider.offset(SessionId(name))
            if name in saved and have < applied:  # one without a record was forgotten just before the end
                offset = min(offset, have + 1)
        self.clocks[partition], self.ends[partition] = Micros(checkpoint.clock), checkpoint.alerts
        self.mixed |= {partition} if checkpoint.mixed or any(map(self.decider.foreign, sessions)) else set()
        await self._take_over(partition, {s: end for s in sessions if (end := self.decider.reached(s)) is not None})
        return {SCORES: Position(offset=offset, clock=Micros(checkpoint.clock))}

    async def handle(self, batch: Batch) -> None:
        """Judge every record. Bears repetition: what was applied is ignored, and what it caused is still pending."""
        await self._send()
        for record in batch.records:
            self.metrics.read.labels(STAGE, record.topic).inc()
            self.metrics.read_bytes.labels(STAGE, record.topic).inc(len(record.value or b""))
            self._judge(record)
        for (_, partition), clock in batch.clocks.items():
            self.clocks[partition] = clock.arrival
        await self._send()

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """Write the sessions that changed, forget those long silent, and say what that commits."""
        if (end := positions.get(ALERTS, 0)) > (self.ends.get(partition) or 0):
            await self._take_over(partition, {})
            self.ends[partition] = end  # read, though the last offsets may hold no record
        self._give_up(partition)
        clock = self.clocks.get(partition, Micros(0))
        gone = [s for s in self.decider.silent_since(Micros(clock - self.decider.keeps)) if self.homes.get(s) == partition]
        for session in gone:
            self._write(self.decider.close(session))
        await self._send()
        changed = sorted(s for s in {*self.changed, *gone} if self.homes[s] == partition)
        states = [checkpoints.message(STAGE, partition, self.decider.state(s, alerts=self._known(partition, s)), name=s) for s in changed]
        buried = sorted(s for s in self.gone[partition] if s not in self.homes)
        await self.producer.send([*states, *(checkpoints.message(STAGE, partition, None, name=s) for s in buried)])
        self.changed -= {*changed}
        self.gone[partition] = {*gone}
        for session in gone:
            self.decider.forget(session)
            del self.homes[session]
        self._report()
        applied = {str(s): self.decider.offset(s) for s, home in self.homes.items() if home == partition}
        mixed = partition in self.mixed and bool(self.expected[partition])
        known = self._known(partition)
        return msgspec.json.encode(Checkpoint(offset=positions[SCORES], clock=clock, sessions=applied, alerts=known, mixed=mixed))

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Scores that are gone are windows without a score: they count as negative."""
        self.metrics.lost.labels(STAGE, topic).inc(found - wanted)
        log.warning("scores are gone before they were judged", topic=topic, partition=partition, first=wanted, last=found - 1)

    def drop(self) -> None:
        """Forget every session."""
        for session in self.homes:
            self.decider.forget(session)
        self.homes.clear()
        self.changed.clear()
        self.clocks.clear()
        self.logs.clear()
        self.ends.clear()
        self.expected.clear()
        self.mixed.clear()
        self.gone.clear()
        self.pending.clear()

    async def _take_over(self, partition: int, reached: Mapping[SessionId, int]) -> None:
        """What others sent since this partition of `alerts` was last known, by a session or at all; nothing where that is not known."""
        known, found = self.ends.get(partition), list[Alert]()
        if known is None:
            return
        end = known
        async for record in self.logs[partition](ALERTS, min([known, *reached.values()])):
            end = max(end, record.offset + 1)
            try:
                alert = read_alert(record)
            except BadRecord as exc:
                log.warning("not an alert", topic=ALERTS, partition=partition, offset=record.offset, error=exc.detail)
                continue
            if record.offset < reached.get(alert.session, known):
                continue
            if alert.rules != self.decider.version:
                found.append(alert)
            elif not self.decider.knows(alert):
                self.expected[partition].setdefault((alert.id, alert.revision), (record.offset, alert))
        self.ends[partition] = end
        self.mixed |= {partition} if found else set()
        self._adopt(partition, found)

    def _known(self, partition: int, session: SessionId | None = None) -> int | None:
        """Up to where `alerts` is known, or what stands there of one session: what is expected is not."""
        waiting = (offset for offset, alert in self.expected[partition].values() if session in (None, alert.session))
        return min(waiting, default=self.ends.get(partition))

    def _give_up(self, partition: int) -> None:
        """What these rules sent and did not say again, though all that it can be due to was read.

        The state knew it before and has let it go; or others' alerts were in the way, then it is taken over like them.
        """
        clock, expected, latest = self.clocks.get(partition, Micros(0)), self.expected[partition], defaultdict[str, int](int)
        for _, alert in expected.values():
            latest[alert.id] = max(latest[alert.id], alert.at)
        overdue = {key: alert for key, (_, alert) in expected.items() if latest[alert.id] < clock}
        for key in overdue:
            del expected[key]
        if partition in self.mixed:
            self._adopt(partition, overdue.values())

    def _adopt(self, partition: int, found: Collection[Alert]) -> None:
        if changed := self.decider.adopt(found):
            log.warning("alerts that are in no checkpoint: taken over", partition=partition, sessions=len(changed))
        self.changed |= changed
        self.homes |= dict.fromkeys(changed, partition)
        behind = {alert.session for alert in found if alert.at > self.clocks.get(partition, 0)}  # its cause is still to be read
        for session in sorted(changed - behind):
            self._write(self.decider.review(session))

    def _take(self, name: str, value: bytes) -> SessionId:
        try:
            return self.decider.restore(value)
        except ValueError as exc:
            raise ConfigError(f"the record decide/{name} in {checkpoints.TOPIC} is of another version: {exc}") from exc

    def _judge(self, record: Record) -> None:
        try:
            alerts = self._alerts(record)
        except Exception as exc:  # a codec's own fault must not stop the stage either
            reason = exc.reason if isinstance(exc, BadRecord) else Reason.UNEXPECTED
            self.metrics.dead.labels(STAGE, reason.value).inc()
            self.pending.append(write_deadletter(dead_letter(STAGE, record, exc)))
            return
        self._write(alerts, keep=tuple(header for header in record.headers if header[0] == TRACEPARENT))

    def _write(self, alerts: Iterable[Alert], keep: Headers = ()) -> None:
        for alert in alerts:
            self.expected[self.homes[alert.session]].pop((alert.id, alert.revision), None)
            self.metrics.alerts.labels(alert.rule, alert.severity.value, alert.state.value).inc()
            self.pending.append(write_alert(alert, keep=keep))

    def _alerts(self, record: Record) -> list[Alert]:
        told = checked(read_scores(record))
        home = partition_of(told.session.encode(), self.config.kafka.partitions)
        if home != record.partition:
            raise BadRecord(Reason.WRONG_PARTITION, f"key: belongs to partition {home}, stands in {record.partition}")
        if isinstance(told, Scores) and not told.may_alert and told.model not in self.mute:
            self.mute.add(told.model)
            log.warning("no alert may rest on the scores of this model: they are ignored", model=told.model)
        self.homes[told.session] = record.partition
        self.changed.add(told.session)
        return self.decider.push(told, arrival=record.arrival, offset=record.offset)

    def _report(self) -> None:
        """Say what could not be counted for any alert, once it happens."""
        now = (self.decider.beyond, self.decider.forced)
        self.metrics.ignored_scores.inc(now[0] - self.told[0])
        self.metrics.frozen_early.inc(now[1] - self.told[1])
        if now[0] > self.told[0]:
            log.warning("scores came after their windows were frozen: they are ignored", scores=now[0] - self.told[0])
        if now[1] > self.told[1]:
            log.warning("windows were frozen early: a session's state had no room for them", windows=now[1] - self.told[1])
        self.told = now

    async def _send(self) -> None:
        if self.pending:
            for message, at in zip(self.pending, await self.producer.send(self.pending), strict=True):
                if message.topic == ALERTS and self.ends.get(at.partition) == at.offset:
                    self.ends[at.partition] = at.offset + 1
                self.metrics.written.labels(STAGE, message.topic).inc()
                self.metrics.written_bytes.labels(STAGE, message.topic).inc(len(message.value or b""))
            self.pending.clear()


async def run(runtime: Runtime) -> None:
    """Decide until `runtime.stop` is set. Raises ConfigError for rules that are wrong."""
    config, metrics = runtime.config, runtime.metrics
    decider = Decider(load_rules(config.rules), DecideSettings.beyond(config.align))
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    async with Producer(kafka) as producer:
        stateful = Deciding(config=config, producer=producer, metrics=metrics, decider=decider)
        await host(runtime, kafka, owner=STAGE, topics=(SCORES,), outputs=(ALERTS,), stateful=stateful, producer=producer)

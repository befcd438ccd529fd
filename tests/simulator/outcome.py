"""What a schedule came to, whoever played it: the simulator (`world.py`), or real workers on a real broker (`replay.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.config import AlignSettings, Config, KafkaSettings, SessionSettings
from streamer.events import Alert, Micros, SessionMark, Window
from streamer.rules import Rules, parse_rules
from streamer.stages.decide import Decider, DecideSettings
from streamer.stages.wire import read_alert
from streamer.topology import HOUR
from tests.simulator.broker import Broker
from tests.simulator.schedule import Schedule
from tests.simulator.workers import Host, Scorer


def _rules(siren: float, scream: str) -> Rules:
    off = {"id": "siren", "class": "siren", "threshold": siren, "off_threshold": 0.3, "duration": 0, "cooldown": 0}
    long = {"id": "scream", "class": "scream", "threshold": 0.6, "duration": scream, "cooldown": 0}
    calm = {"id": "calm", "class": "siren", "threshold": 0.6, "duration": 0, "cooldown": "6s"}
    return parse_rules({"rules": [off, long, calm]})


RULES = _rules(0.6, "2s")
OTHERS = {"E": _rules(0.8, "1s")}
"""The rules of some workers of decide, where a schedule is mixed."""


def decider_of(schedule: Schedule, worker: str = "") -> Decider:
    """decide's rules and settings; its horizon is beyond anything that a schedule lasts."""
    rules = OTHERS.get(worker, RULES) if schedule.mixed else RULES
    return Decider(rules, DecideSettings(hop=Micros(schedule.settings.hop), horizon=Micros(HOUR)))


def config_of(schedule: Schedule, kafka: KafkaSettings) -> Config:
    """What the roles are told."""
    sessions = tuple(SessionSettings(id=name, expect=modalities) for name, modalities in schedule.expected.items())
    return Config(kafka=kafka, align=schedule.settings, sessions=sessions)


@dataclass
class Outcome:
    """The logs, all of them, and what is known of the workers. `slept`: one that was replaced may have gone on writing."""

    schedule: Schedule
    broker: Broker
    workers: dict[str, Host | Scorer] = field(default_factory=dict)
    slept: bool = False

    @property
    def settings(self) -> AlignSettings:
        """The schedule's."""
        return self.schedule.settings

    def windows(self) -> Iterator[Window | SessionMark]:
        """All that stands in `windows`."""
        for number in range(self.broker.partitions):
            for offset in range(self.broker.end(("windows", number))):
                yield self.broker.window(number, offset)

    def alerts(self) -> list[Alert]:
        """All that stands in `alerts`."""
        return [read_alert(record) for record in self.broker.everything("alerts")]

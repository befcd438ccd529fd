"""Live sessions: frames, sound and words that a feed writes down as it writes them, and the windows and scores that come of them."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from streamer.config import Config
from streamer.events import Scores, SessionMark, Silence, Window
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.stages.wire import read_late, read_scores, read_window
from streamer.stages.wire.dead import read_deadletter
from tests.bench.load import spread
from tests.faults import feed
from tests.faults.ledger import Verdict, expected, read_ledger, verdict
from tests.faults.place import NOTHING, PARTITIONS, SESSION_TIMEOUT, Place, fresh
from tests.faults.processes import Child
from tests.faults.watch import watching
from tests.integration.pipeline import until

MEDIA: Mapping[str, str] = {}
READERS = {"windows": read_window, "scores": read_scores}


@dataclass
class Town(Place):
    """A place with a feed and its ledger."""

    config: Config = field(default_factory=Config)
    feed: Child = field(init=False)

    def look(self) -> None:
        """The feed must live too."""
        super().look()
        assert self.feed.code is None, f"the feed ended with {self.feed.code}:\n{self.feed.tail()}"

    def close(self) -> None:
        """The feed too."""
        super().close()
        self.feed.kill()

    async def finish(self, topic: str = "windows") -> None:
        """The feed ends all tracks; then wait until every session's end stands in `topic`, and nothing more comes."""
        self.feed.send(signal.SIGTERM)

        async def fed() -> bool:
            return self.feed.code is not None

        await until(fed, "the feed has sent everything", seconds=240)
        assert self.feed.code == 0, self.feed.tail()
        await self.ended(topic)

    async def ended(self, topic: str, after: Mapping[int, int] = NOTHING) -> None:
        """Every session's end is the last thing that is said of it, for two seconds."""
        quiet_since: float | None = None

        async def quiet() -> bool:
            nonlocal quiet_since
            super(Town, self).look()
            last = {one.session: one for one in await self.read(topic, READERS[topic], after)}
            over = [one for one in last.values() if isinstance(one, SessionMark) and one.why is Silence.END]
            quiet_since = (quiet_since or time.monotonic()) if len(over) == len(self.sessions) else None
            return quiet_since is not None and time.monotonic() - quiet_since > 2

        await until(quiet, f"every session's end in {topic}", seconds=180)

    async def verdict(self) -> Verdict:
        """The ledger against the topics."""
        windows = [one for one in await self.read("windows", read_window) if isinstance(one, Window)]
        late = await self.read("late", read_late)
        dead = [one for one in await self.read("deadletter", read_deadletter) if one.stage == "align"]
        return verdict(expected(read_ledger(self.folder / "ledger.jsonl"), self.config.align), windows, late, dead)

    async def scores_verdict(self) -> dict[str, int]:
        """Each window's last score against that of a worker whom nobody disturbs, over the same topics."""
        windows = [one for one in await self.read("windows", read_window) if isinstance(one, Window)]
        final = {(one.session, one.start): one.revision for one in sorted(windows, key=lambda one: one.revision)}
        told, repeated, conflicts = _first(await self.read("scores", read_scores))
        for called in list(self.workers):
            self.leave(called)
        before = Counter(await self.read("scores", lambda record: record.partition))
        await self._forget_what_was_scored()
        self.join("infer", "infer-undisturbed")
        await self.ended("scores", before)
        reference, _, _ = _first(await self.read("scores", read_scores, before))
        wanted = [(*key, revision) for key, revision in final.items()]
        return {
            "scores": len(wanted),
            "scores twice": repeated,
            "scores missing": sum(key not in told for key in wanted),
            "scores differ": conflicts + sum(key in told and told[key] != reference.get(key) for key in wanted),
        }

    async def _forget_what_was_scored(self) -> None:
        consumer = self.kafka.consumer(group="infer")
        await consumer.start()
        try:
            tps = [self.kafka.partition("windows", number) for number in range(PARTITIONS)]
            consumer.assign(tps)
            await consumer.commit(dict.fromkeys(tps, 0))
        finally:
            await consumer.stop()


def _first(told: list[Scores | SessionMark]) -> tuple[dict[tuple[str, int, int], Scores], int, int]:
    """The first score of each (window, revision), which is the one that counts; how many were said again, and said otherwise."""
    found: dict[tuple[str, int, int], Scores] = {}
    scores = [one for one in told if isinstance(one, Scores)]
    conflicts = sum(found.setdefault((one.session, one.start, one.revision), one) != one for one in scores)
    return found, len(scores) - len(found), conflicts


@asynccontextmanager
async def town(
    address: str,
    folder: Path,
    *,
    horizon: float = 20.0,
    sessions: int = 8,
    session_timeout: float = SESSION_TIMEOUT,
    watch: tuple[str, ...] = ("windows",),
    seed: int = 1,
    media: Mapping[str, str] = MEDIA,
) -> AsyncIterator[Town]:
    """A fresh town: its topics, its settings, the feed running. `media`: files with a frame and a chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(
        kafka=fresh(address, session_timeout),
        align={"horizon": f"{horizon}s"},
        infer={"profile": "tiny", "device": "cpu", "shed": False},
        health={"port": 0},
    )
    (folder / "streamer.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    door, names = Kafka(config.kafka), tuple(spread(sessions, PARTITIONS))
    await create_topics(door)
    wanted = feed.Settings(
        address=address,
        prefix=config.kafka.prefix,
        ledger=str(folder / "ledger.jsonl"),
        sessions=names,
        horizon=horizon,
        seed=seed,
        **media,
    )
    (folder / "feed.json").write_text(json.dumps(asdict(wanted)))
    async with AsyncExitStack() as stack:
        watches = {topic: await stack.enter_async_context(watching(door, topic)) for topic in watch}
        place = Town(kafka=door, folder=folder, sessions=names, watches=watches, config=config)
        place.feed = Child("feed", [sys.executable, "-m", "tests.faults.feed", str(folder / "feed.json")], folder)
        stack.callback(place.close)
        yield place

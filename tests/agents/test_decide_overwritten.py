"""A session's state that a replaced worker wrote over a newer one: what it does not know of the session's alerts is taken over."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from streamer.agents.decide import Checkpoint
from streamer.config import KafkaSettings
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.rules import Rules
from tests.agents.test_decide import HOME, STRICT, batch, deciding, log_of, told, whole
from tests.builders_decide import HOUSE, mark, rules, scores

__all__ = ["whole"]  # a fixture
LOUD = (0, scores(10, 0.9))
QUIET = [(offset, scores(10 + offset)) for offset in range(1, 4)]


async def state_in(reader: LogReader) -> bytes:
    """The session's record in `checkpoints` now."""
    return (await checkpoints.fold("decide", log_of(reader, "checkpoints", 0)))[HOUSE]


async def overwritten(producer: Producer, reader: LogReader) -> dict[str, bytes]:
    """The checkpoint of a worker that raised an alert, and the state of one with stricter rules that comes to stand in place of its own."""
    read = partial(log_of, reader)
    replaced, owner = deciding(producer, STRICT), deciding(producer)
    for worker in (replaced, owner):
        await worker.restore(HOME, {}, read)
    await replaced.handle(batch(1, LOUD))
    await replaced.checkpoint(HOME, {"scores": 1, "alerts": 0})
    old = await state_in(reader)
    await owner.handle(batch(1, LOUD))
    return {"": await owner.checkpoint(HOME, {"scores": 1, "alerts": 1}), HOUSE: old}


@pytest.mark.parametrize(("new", "last"), [(rules(), "resolved"), (STRICT, "retracted")])
async def test_what_an_overwritten_state_does_not_know_of_is_ended(whole: KafkaSettings, new: Rules, last: str) -> None:
    """The scores that it is due to stand in that state: they are not read again."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        saved, worker = await overwritten(producer, reader), deciding(producer, new)
        assert (await worker.restore(HOME, saved, partial(log_of, reader)))["scores"].offset == 1
        await worker.handle(batch(2, *QUIET))
        await worker.checkpoint(HOME, {"scores": 4, "alerts": 1})
        await worker.handle(batch(3, (4, mark(30))))
        assert await told(whole) == [(0, "raised"), (1, last)]


async def test_it_is_ended_too_if_the_worker_that_found_it_dies_first(whole: KafkaSettings) -> None:
    """It saved a state of its own meanwhile, which tells no more that others wrote the one before."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        read, saved = partial(log_of, reader), await overwritten(producer, reader)
        first, second = deciding(producer), deciding(producer)
        await first.restore(HOME, saved, read)
        await first.handle(batch(1, QUIET[0]))  # in the millisecond of the alert: its cause may still be to come
        saved = {"": await first.checkpoint(HOME, {"scores": 2, "alerts": 1}), HOUSE: await state_in(reader)}
        found = msgspec.json.decode(saved[""], type=Checkpoint)
        assert (found.alerts, found.mixed) == (0, True)
        await second.restore(HOME, saved, read)
        await second.handle(batch(2, *QUIET[1:]))
        found = msgspec.json.decode(await second.checkpoint(HOME, {"scores": 4, "alerts": 1}), type=Checkpoint)
        assert (found.alerts, found.mixed) == (2, False)
        await second.handle(batch(3, (4, mark(30))))
        assert await told(whole) == [(0, "raised"), (1, "resolved")]


async def test_what_a_state_knew_when_it_was_saved_is_not_taken_over_though_the_checkpoint_is_older(whole: KafkaSettings) -> None:
    """Killed between its states and its checkpoint; it may have let go since what it knew."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        saved, worker = await overwritten(producer, reader), deciding(producer, STRICT)
        worker.decider.restore(saved[HOUSE])
        saved = {"": b'{"offset":1,"clock":1,"sessions":{"house-1":0},"alerts":0}', HOUSE: worker.decider.state(HOUSE, alerts=1)}
        await worker.restore(HOME, saved, partial(log_of, reader))
        await worker.handle(batch(3, *QUIET, (4, mark(30))))
        assert await told(whole) == [(0, "raised")]

"""The feed between a source's thread and the event loop: the laws of `sources/feed.py`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from streamer.events import Message
from streamer.sources.feed import Feed, Item, Up


def item(number: int, size: int = 100) -> Item:
    return Item(message=Message(topic="frames", key=str(number).encode(), value=bytes(size)))


async def everything(feed: Feed) -> list[Item]:
    found: list[Item] = []
    while batch := await feed.batch(150):
        found += batch
    return found


async def test_items_keep_their_order_and_none_is_lost() -> None:
    feed = Feed(lambda _: (item(n) for n in range(500)), limit=1_000, lossy=False, name="t")
    feed.start()
    assert [i.message.key for i in await everything(feed) if i.message] == [str(n).encode() for n in range(500)]
    assert feed.dropped == 0


async def test_a_full_feed_makes_its_source_wait() -> None:
    given: list[int] = []

    def source(_: threading.Event) -> Iterator[Item]:
        for n in range(50):
            given.append(n)
            yield item(n)

    feed = Feed(source, limit=500, lossy=False, name="t")
    feed.start()
    async with asyncio.timeout(5):
        while len(given) < 6:
            await asyncio.sleep(0.01)
    await feed.batch(1)
    assert len(given) <= 7
    assert len(await everything(feed)) == 49


async def test_a_full_lossy_feed_drops_the_oldest_media_and_no_mark() -> None:
    done = threading.Event()

    def source(_: threading.Event) -> Iterator[Item]:
        yield Item(state=Up(again=False))
        yield from (item(n) for n in range(20))
        done.set()

    feed = Feed(source, limit=500, lossy=True, name="t")
    feed.start()
    await asyncio.to_thread(done.wait, 5)
    first, *rest = await everything(feed)
    assert first.state == Up(again=False)
    assert [i.message.key for i in rest if i.message] == [b"15", b"16", b"17", b"18", b"19"]
    assert feed.dropped == 15


async def test_an_item_larger_than_the_limit_still_passes() -> None:
    feed = Feed(lambda _: iter([item(0, 5_000), item(1, 5_000)]), limit=10, lossy=False, name="t")
    feed.start()
    assert len(await everything(feed)) == 2


async def test_what_a_source_raises_comes_after_what_it_gave() -> None:
    def source(_: threading.Event) -> Iterator[Item]:
        yield item(0)
        raise ValueError("broken")

    feed = Feed(source, limit=500, lossy=False, name="t")
    feed.start()
    assert len(await feed.batch(1_000)) == 1
    with pytest.raises(ValueError, match="broken"):
        await feed.batch(1_000)


async def test_closing_ends_a_source_that_waits_for_room() -> None:
    feed = Feed(lambda _: (item(n) for n in range(10_000)), limit=200, lossy=False, name="t")
    feed.start()
    await feed.batch(1)
    feed.close()
    async with asyncio.timeout(5):
        assert len(await everything(feed)) < 10


class Slow(Feed):
    """A feed whose source always ends between two looks of its reader: at the queue, and at whether it has ended."""

    def _take(self, most: int) -> list[Item]:
        taken = super()._take(most)
        if not taken and not self.may_end.is_set():
            self.may_end.set()
            self._thread.join()
        return taken

    may_end: threading.Event


async def test_what_comes_just_before_the_end_is_not_lost() -> None:
    may_end = threading.Event()

    def source(_: threading.Event) -> Iterator[Item]:
        may_end.wait()
        yield item(0, 0)

    feed = Slow(source, limit=500, lossy=False, name="t")
    feed.may_end = may_end
    feed.start()
    assert len(await everything(feed)) == 1

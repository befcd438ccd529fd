"""What every role does once it has loaded its things."""

from __future__ import annotations

import gc
import time

from streamer.runtime import settle


def test_what_is_loaded_is_not_searched_for_garbage_again() -> None:
    """Processor time of this thread, one beside the other."""

    def collecting() -> float:
        began = time.thread_time()
        gc.collect()
        return time.thread_time() - began

    gc.unfreeze()
    loaded = [[number] for number in range(300_000)]
    before = min(collecting() for _ in range(3))
    settle()
    try:
        assert min(collecting() for _ in range(3)) < before / 10
    finally:
        gc.unfreeze()
    assert len(loaded) == 300_000

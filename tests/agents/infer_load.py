"""A live session at the speed of life, or faster: its media, then the window that closes over them, and what infer made of it."""

from __future__ import annotations

import asyncio
import dataclasses

from streamer.events import EventRef, Modality, Origin, Scores, Window
from tests.agents.infer_room import Running, Scene, scores_of


@dataclasses.dataclass
class Load:
    """Windows of 2 s, one a second, of some cameras and a microphone; somebody speaks in each. `speed`: seconds of it in one of ours."""

    scene: Scene
    cameras: int = 2
    fps: int = 8
    speed: float = 1.0
    windows: list[Window] = dataclasses.field(default_factory=list)
    seconds: int = 0

    async def run(self, length: int) -> None:
        """So many seconds more of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(length):
            for frame in range(self.fps):
                await asyncio.sleep(began + (number + frame / self.fps) / self.speed - loop.time())
                for camera in range(self.cameras):  # they never look at the same instant
                    await self.scene.frame(self.seconds + frame / self.fps + camera / 1_000, source=f"cam-{camera}")
            heard = await self.scene.audio(self.seconds)
            self.seconds += 1
            if self.seconds > 1:
                await self._close(self.seconds - 2, heard)

    async def _close(self, start: int, last: EventRef) -> None:
        spoken = self.scene.words(start + 0.5, f"number {start}", offset=start)
        self.windows.append(await self.scene.window(start, more=[spoken], trigger=last.arrival))


async def scored(infer: Running, load: Load, *, seconds: float = 30) -> dict[str, Scores]:
    """The scores of all its windows, once they are there: exactly one for each."""
    await infer.until(lambda: infer.written >= len(load.windows), "all scores", seconds=seconds)
    found = {one.window: one for one in await scores_of(infer.kafka) if isinstance(one, Scores)}
    assert [found[window.id].start for window in load.windows] == [window.start for window in load.windows]
    return found


def used(window: Window, score: Scores) -> list[EventRef]:
    """The events that the score rests on."""
    sources = set[Origin](score.sources)
    return [ref for ref in window.manifest if ref.origin in sources]


def frames_by_camera(refs: list[EventRef]) -> dict[str, list[EventRef]]:
    """In order."""
    found = dict[str, list[EventRef]]()
    for ref in sorted(refs, key=lambda ref: ref.start):
        if ref.modality is Modality.FRAMES:
            found.setdefault(ref.source, []).append(ref)
    return found

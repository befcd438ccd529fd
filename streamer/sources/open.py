"""Which source a url means."""

from __future__ import annotations

from streamer.config import SourceSettings
from streamer.events import Micros
from streamer.sources.feed import Source
from streamer.sources.file import FileSource
from streamer.sources.rtsp import RtspSource
from streamer.sources.scene import SCHEME, SceneSource


def is_live(settings: SourceSettings) -> bool:
    """Whether the source cannot wait: what is not read now is gone."""
    return settings.url.startswith(("rtsp://", "rtsps://"))


def open_source(settings: SourceSettings, *, start: Micros, password: str | None = None) -> Source:
    """The source of a url, not yet reading. `start` is the event time of a file's or scene's first sample."""
    if is_live(settings):
        return RtspSource(settings, password=password)
    if settings.url.startswith(SCHEME):
        return SceneSource(settings, start=start)
    return FileSource(settings, start=start)

"""Which source a url means."""

from __future__ import annotations

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import Micros
from streamer.sources.feed import Source
from streamer.sources.file import FileSource
from streamer.sources.rtsp import RtspSource
from streamer.sources.scene import SCHEME, SceneSource
from streamer.sources.urls import redact, scheme

LIVE = ("rtsp", "rtsps")


def is_live(settings: SourceSettings) -> bool:
    """Whether the source cannot wait: what is not read now is gone."""
    return scheme(settings.url) in LIVE


def open_source(settings: SourceSettings, *, start: Micros, password: str | None = None) -> Source:
    """The source of a url, not yet reading. `start` is the event time of a file's or scene's first sample. Raises ConfigError."""
    if is_live(settings):
        return RtspSource(settings, password=password)
    if settings.url.lower().startswith(SCHEME):
        return SceneSource(settings, start=start)
    if "://" in settings.url:
        raise ConfigError(
            f"source {settings.name}: {redact(settings.url)} is neither {'://, '.join(LIVE)}:// nor {SCHEME}PATH nor a file's path"
        )
    return FileSource(settings, start=start)

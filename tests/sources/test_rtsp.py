"""A camera on loopback (GStreamer's RTSP server): read, stopped and started, frozen, and locked."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND
from streamer.kafka.embedded import free_port
from streamer.sources.feed import Down, Up, wall
from streamer.sources.rtsp import RtspSource
from streamer.sources.urls import redact, with_login
from streamer.stages.ingest import RATE, Pcm, Picture, Take, due

SERVER = Path(__file__).parent / "rtsp_server.py"
PATIENCE = 40.0  # seconds that anything may take before a test fails


class Camera:
    """The server as a child process, on a port of its own."""

    def __init__(self, *login: str) -> None:
        self.port, self._login = free_port(), login
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"
        self.start()

    def start(self) -> None:
        # Debian's own Python: GStreamer's bindings are a Debian package
        command = ["/usr/bin/python3", str(SERVER), str(self.port), *self._login]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
        assert self.child.stdout
        assert self.child.stdout.readline() == "ready\n"

    def stop(self) -> None:
        self.child.send_signal(signal.SIGCONT)
        self.child.kill()
        self.child.wait()


class Seen:
    """What a source has given so far; the reading goes on in this thread until `enough` holds."""

    def __init__(self, source: RtspSource) -> None:
        self.stop = threading.Event()
        self._items = source.read(self.stop)
        self.takes: list[Take] = []
        self.states: list[Up | Down] = []

    def until(self, enough: Callable[[Seen], bool]) -> float:
        """Read until `enough`; returns the seconds it took."""
        begun = time.monotonic()
        while not enough(self):
            assert time.monotonic() - begun < PATIENCE, self.states
            item = next(self._items)
            (self.states if isinstance(item, Up | Down) else self.takes).append(item)  # type: ignore[arg-type]
        return time.monotonic() - begun

    def pictures(self) -> list[Picture]:
        return [take for take in self.takes if isinstance(take, Picture)]

    def sounds(self) -> list[Pcm]:
        return [take for take in self.takes if isinstance(take, Pcm)]


@pytest.fixture
def camera() -> Iterator[Camera]:
    one = Camera()
    yield one
    one.stop()


def source(url: str, *, password: str | None = None, **more: Any) -> RtspSource:
    return RtspSource(SourceSettings(name="gate", url=url, **({"fps": 5, "stall": "2s"} | more)), password=password)


def test_a_camera_gives_pictures_and_sound_at_their_capture_times(camera: Camera) -> None:
    seen = Seen(source(camera.url))
    seen.until(lambda s: len(s.sounds()) >= 3 and len(s.pictures()) >= 15)
    newest = max(due(take) for take in seen.takes)
    assert abs(wall() - newest) < 500 * MILLISECOND
    times = [picture.at for picture in seen.pictures()]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(90 * MILLISECOND < step < 310 * MILLISECOND for step in steps), steps
    assert times[-1] - times[0] == pytest.approx((len(times) - 1) * SECOND / 5, abs=SECOND / 5)
    assert [len(chunk.samples) for chunk in seen.sounds()[:2]] == [RATE, RATE]
    assert seen.sounds()[1].start == seen.sounds()[0].end
    assert seen.states == [Up(again=False)]


def test_a_camera_that_was_away_comes_back_and_time_rises(camera: Camera) -> None:
    seen = Seen(source(camera.url))
    seen.until(lambda s: len(s.pictures()) >= 5)
    camera.stop()
    seen.until(lambda s: isinstance(s.states[-1], Down))
    before = len(seen.pictures())
    camera.start()
    took = seen.until(lambda s: len(s.pictures()) >= before + 5 and len(s.sounds()) >= 2)
    assert Up(again=True) in seen.states
    for track in (seen.pictures(), seen.sounds()):
        times = [due(take) for take in track]
        assert times == sorted(set(times))
    assert took < 15
    assert abs(wall() - seen.pictures()[-1].at) < 500 * MILLISECOND


def test_a_frozen_camera_is_noticed_as_a_stall(camera: Camera) -> None:
    seen = Seen(source(camera.url))
    seen.until(lambda s: len(s.pictures()) >= 3)
    camera.child.send_signal(signal.SIGSTOP)
    took = seen.until(lambda s: isinstance(s.states[-1], Down))
    assert 1.5 < took < 5
    camera.child.send_signal(signal.SIGCONT)
    before = len(seen.pictures())
    seen.until(lambda s: len(s.pictures()) >= before + 3)
    times = [picture.at for picture in seen.pictures()]
    assert times == sorted(set(times))


def test_a_login_opens_the_camera_and_a_wrong_one_is_never_shown() -> None:
    camera = Camera("guard", "right-secret")
    try:
        wrong = Seen(source(camera.url, username="guard", password="wrong-secret"))
        inside = Seen(source(camera.url.replace("://", "://guard:other-secret@") + "?token=third-secret"))
        with capture_logs() as logs:
            for seen in (wrong, inside):
                seen.until(lambda s: len(s.states) >= 2)
        shown = repr((wrong.states, inside.states, logs))
        assert "401" in shown
        assert "secret" not in shown
        right = Seen(source(camera.url, username="guard", password="right-secret"))
        right.until(lambda s: len(s.pictures()) >= 1)
    finally:
        camera.stop()


def test_a_url_without_a_host_is_refused_without_its_login() -> None:
    with pytest.raises(ConfigError, match="names no host") as caught:
        source("rtsp://me:secret@/camera").check()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:pa%40ss@10.0.0.1:554/a/b?user=x&password=y#z", "rtsp://10.0.0.1:554/a/b"),
        ("rtsp://me:p@ss@host/a", "rtsp://host/a"),
        ("films/door.mp4", "films/door.mp4"),
        ("scene:deploy/demo/scene.yaml", "scene:deploy/demo/scene.yaml"),
    ],
)
def test_what_is_shown_of_a_url_holds_no_login(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_login_of_the_settings_is_quoted_into_the_url() -> None:
    assert with_login("rtsp://old:one@host:554/a", "me", "p@:/ss") == "rtsp://me:p%40%3A%2Fss@host:554/a"

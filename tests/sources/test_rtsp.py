"""A camera on loopback (GStreamer's RTSP server): read, stopped and started, frozen, and locked."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from structlog.testing import capture_logs

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND
from streamer.kafka.embedded import free_port
from streamer.sources.feed import Down, State, Up, wall
from streamer.sources.rtsp import RtspSource
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
        self.states: list[State] = []
        self.lags: list[int] = []  # microseconds from each take's event time to its reading

    def until(self, enough: Callable[[Seen], bool]) -> float:
        """Read until `enough`; returns the seconds it took."""
        begun = time.monotonic()
        while not enough(self):
            assert time.monotonic() - begun < PATIENCE, self.states
            item = next(self._items)
            if isinstance(item, State):
                self.states.append(item)
            else:
                self.takes.append(item)
                self.lags.append(wall() - due(item))
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
    return RtspSource(SourceSettings(name="gate", url=url, **({"fps": 5, "stall": "20s"} | more)), password=password)


def test_a_camera_gives_pictures_and_sound_at_their_capture_times(camera: Camera) -> None:
    seen = Seen(source(camera.url))
    seen.until(lambda s: len(s.sounds()) >= 3 and len(s.pictures()) >= 15)
    assert min(seen.lags) < 500 * MILLISECOND
    times = [picture.at for picture in seen.pictures()]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(90 * MILLISECOND < step < 310 * MILLISECOND for step in steps), steps
    assert statistics.median(steps) == pytest.approx(SECOND / 5, abs=50 * MILLISECOND)
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
    seen.lags.clear()
    took = seen.until(lambda s: len(s.pictures()) >= before + 5 and len(s.sounds()) >= 2)
    assert Up(again=True) in seen.states
    for track in (seen.pictures(), seen.sounds()):
        times = [due(take) for take in track]
        assert times == sorted(set(times))
    assert took < 30
    assert min(seen.lags) < 500 * MILLISECOND


def test_no_take_of_a_camera_comes_before_its_time(camera: Camera) -> None:
    """Where the machine pauses as a connection opens, its clock starts ahead: one of three must have opened well."""

    def earliest() -> int:
        seen = Seen(source(camera.url))
        seen.until(lambda s: len(s.sounds()) >= 2)
        return min(seen.lags)

    assert any(earliest() > -100 * MILLISECOND for _ in range(3))


def test_a_frozen_camera_is_noticed_as_a_stall(camera: Camera) -> None:
    seen = Seen(source(camera.url, stall="4s"))
    seen.until(lambda s: len(s.pictures()) >= 3)
    camera.child.send_signal(signal.SIGSTOP)
    took = seen.until(lambda s: isinstance(s.states[-1], Down))
    assert 3 < took < 15
    camera.child.send_signal(signal.SIGCONT)
    before = len(seen.pictures())
    seen.until(lambda s: len(s.pictures()) >= before + 3)
    times = [picture.at for picture in seen.pictures()]
    assert times == sorted(set(times))


class Network:
    """A way to a camera that can stand still: what is under way waits, and comes all at once."""

    def __init__(self, port: int) -> None:
        self._to, self._open, self._sockets = port, threading.Event(), list[socket.socket]()
        self._open.set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._door.getsockname()[1]}/camera"
        threading.Thread(target=self._serve, daemon=True).start()

    def stand_still(self, seconds: float) -> None:
        """From now on for so long, while others go on."""
        self._open.clear()
        threading.Timer(seconds, self._open.set).start()

    def close(self) -> None:
        for one in (self._door, *self._sockets):
            one.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, there = self._door.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_a_network_that_stands_still_for_less_than_the_stall_moves_no_event(camera: Camera) -> None:
    network = Network(camera.port)
    try:
        seen = Seen(source(network.url, stall="20s"))
        seen.until(lambda s: len(s.pictures()) >= 10)
        network.stand_still(3)
        seen.until(lambda s: len(s.pictures()) >= 40)
    finally:
        network.close()
    assert seen.states == [Up(again=False)]
    assert max(seen.lags) > 2.5 * SECOND  # it did stand still
    assert min(seen.lags) > -200 * MILLISECOND  # and nothing comes from the future
    steps = [later.at - earlier.at for earlier, later in itertools.pairwise(seen.pictures())]
    assert max(steps) < SECOND
    assert min(steps) > 90 * MILLISECOND
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(seen.sounds()))


def test_an_error_of_any_kind_is_a_connection_that_is_tried_again(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV raises plain ValueErrors, whose text may hold anything."""
    opening, tried = av.open, list[str]()

    def open_or_fail(url: str, *more: Any, **options: Any) -> Any:
        tried.append(url)
        if len(tried) <= 2:
            raise (ValueError if len(tried) == 1 else KeyError)(f"cannot make sense of {url} with-secret")
        return opening(url, *more, **options)

    monkeypatch.setattr(av, "open", open_or_fail)
    seen = Seen(source(camera.url))
    seen.until(lambda s: len(s.pictures()) >= 1)
    assert [state.why.rpartition(": ")[2] for state in seen.states if isinstance(state, Down)] == ["ValueError", "KeyError"]
    assert seen.states[-1] == Up(again=False)
    assert "secret" not in repr(seen.states)


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

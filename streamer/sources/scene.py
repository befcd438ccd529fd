"""A scene that is composed from recordings while it plays: an empty place, clips before it, sounds over a noise floor.

The YAML also holds the script: which alerts the scene must raise, and when. Its source gives exactly what a camera with a
microphone gives. The parts were never recorded together; whoever shows a scene says "composed from real recordings".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Annotated, Any

import av
import cv2
import numpy as np
import yaml
from pydantic import Field, ValidationError

from streamer.config import Id, SessionSettings, Settings, SourceSettings
from streamer.errors import ConfigError
from streamer.events import SECOND, Micros, Pace
from streamer.sources.feed import State, Up, order, paced
from streamer.sources.frames import Timeline, decoded, heard, scaled
from streamer.stages.ingest import RATE, ROUNDING, Chunker, Picture, Rgb, Sound, Take

SCHEME = "scene:"
Seconds = Annotated[float, Field(ge=0)]


class Clip(Settings):
    """Pictures from `file`, shown from second `at` for `length` seconds; `skip` is left out at its beginning."""

    file: str
    at: Seconds
    length: Annotated[float, Field(gt=0)]
    skip: Seconds = 0.0


class Cue(Settings):
    """A sound that starts at second `at`. `length` cuts it short (with a short fade)."""

    file: str
    at: Seconds
    gain_db: float = 0.0
    length: Annotated[float, Field(gt=0)] | None = None


class Noise(Settings):
    """The noise floor: pink noise, generated, the same for the same seed. `level_db` is its RMS against full scale."""

    level_db: Annotated[float, Field(le=0)] = -58.0
    seed: Annotated[int, Field(ge=0)] = 1


class Expected(Settings):
    """One line of the script: `rule` must raise an alert that starts `within` seconds after the true onset."""

    rule: Id
    onset: Seconds
    within: Annotated[float, Field(gt=0)] = 4.0


class Scene(Settings):
    """The whole YAML. Files are named from its own folder. Times are seconds from the scene's start."""

    title: str
    duration: Annotated[float, Field(gt=0, le=3_600)]
    background: str
    clips: tuple[Clip, ...] = ()
    sounds: tuple[Cue, ...] = ()
    noise: Noise = Noise()
    expect: tuple[Expected, ...] = ()


def load_scene(path: Path) -> Scene:
    """Read and check a scene; its media must exist. Raises ConfigError."""
    try:
        scene = Scene.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as exc:
        raise ConfigError(f"cannot read the scene {path}: {exc.strerror}") from exc
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not a valid scene: {exc}") from exc
    files = [scene.background, *(clip.file for clip in scene.clips), *(cue.file for cue in scene.sounds)]
    if missing := sorted(name for name in set(files) if not (path.parent / name).is_file()):
        raise ConfigError(f"{path} names files that are not there: {', '.join(missing)}")
    return scene


def copies(path: Path, count: int, *, pace: Pace, start: str = "now", fps: float = 2.0) -> tuple[SessionSettings, ...]:
    """`count` sessions that play the same scene, for measurements."""
    source = SourceSettings(name="street", url=f"{SCHEME}{path}", pace=pace, start=start, fps=fps)
    return tuple(SessionSettings(id=f"street-{number}", sources=(source,)) for number in range(1, count + 1))


class SceneSource:
    """A scene as a source: the same scene with the same start gives the same events."""

    def __init__(self, settings: SourceSettings, *, start: Micros) -> None:
        self._settings, self._start = settings, start
        self._path = Path(settings.url[len(SCHEME) :])

    def check(self) -> None:
        """Raises ConfigError: the scene, or a file in it, is missing or wrong."""
        load_scene(self._path)
        if self._settings.loop and self._settings.pace is Pace.RECORDED:
            raise ConfigError(f"source {self._settings.name}: a scene with loop and pace: recorded never ends")

    def read(self, stop: threading.Event) -> Iterator[Take | State]:
        """Pictures and chunks in event-time order; at pace live as the clock reaches them."""
        yield Up(again=False)
        takes = self._laps()
        yield from paced(takes, stop) if self._settings.pace is Pace.LIVE else takes

    def _laps(self) -> Iterator[Take]:
        scene, start = load_scene(self._path), self._start
        sound = mixed(scene, self._path.parent) if self._settings.audio else np.empty(0, np.float32)
        while True:
            yield from merge(self._pictures(scene, start), _chunks(start, sound), key=order)
            if not self._settings.loop:
                return
            start = Micros(start + round(scene.duration * SECOND))

    def _pictures(self, scene: Scene, start: Micros) -> Iterator[Take]:
        if not self._settings.video:
            return
        empty = background(self._path.parent / scene.background, self._settings.width)
        shown = [(clip, Showing(clip_pictures(self._path.parent, clip, self._settings.width))) for clip in scene.clips]
        for number in range(int(scene.duration * self._settings.fps)):
            second = number / self._settings.fps
            rgb = empty
            for clip, showing in shown:
                if clip.at <= second < clip.at + clip.length:
                    rgb = empty if (picture := showing.at(second - clip.at)) is None else picture
            yield Picture(at=Micros(start + round(second * SECOND)), rgb=rgb)


def _chunks(start: Micros, sound: Sound) -> Iterator[Take]:
    chunks = Chunker()
    yield from chunks.push(start, sound)
    yield from chunks.flush()


def background(path: Path, width: int) -> Rgb:
    """The empty place. Raises ConfigError."""
    if (bgr := cv2.imread(str(path), cv2.IMREAD_COLOR)) is None:
        raise ConfigError(f"{path} is no picture")
    if bgr.shape[1] > width:
        bgr = cv2.resize(bgr, (width, round(bgr.shape[0] * width / bgr.shape[1])), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


class Showing:
    """A clip on a screen: the picture that is to be seen at each second, asked in rising order."""

    def __init__(self, pictures: Iterator[tuple[float, Rgb]]) -> None:
        self._pictures = pictures
        self._now = self._next = next(pictures, None)
        self._step = 0.0  # seconds between the last two pictures: how long the last of all is seen

    def at(self, second: float) -> Rgb | None:
        """The last picture that is not after `second` (the first, before it); None once the clip is over."""
        while self._next and self._next[0] <= second + ROUNDING / SECOND:
            self._step = self._next[0] - self._now[0] if self._now else 0.0
            self._now, self._next = self._next, next(self._pictures, None)
        over = self._now is None or (self._next is None and second >= self._now[0] + self._step)
        return None if over or self._now is None else self._now[1]


def clip_pictures(folder: Path, clip: Clip, width: int) -> Iterator[tuple[float, Rgb]]:
    """(second of the clip, picture), in order."""
    with av.open(str(folder / clip.file)) as container:
        stream = container.streams.video[0]
        timeline = Timeline(container, stream, Micros(0))
        for frame in decoded(container, stream):
            if (at := timeline.at(frame) / SECOND - clip.skip) >= 0:
                yield at, scaled(frame, width)


def mixed(scene: Scene, folder: Path) -> Sound:
    """The scene's whole sound: mono, 16 kHz; what exceeds full scale is clipped, as a microphone would."""
    total = pink_noise(scene.noise, round(scene.duration * RATE))
    for cue in scene.sounds:
        sound = whole_sound(folder / cue.file)[: round((cue.length or scene.duration) * RATE)] * np.float32(10 ** (cue.gain_db / 20))
        at = round(cue.at * RATE)
        sound = faded(sound[: max(0, len(total) - at)])
        total[at : at + len(sound)] += sound
    clipped: Sound = np.clip(total, -1, 1)
    return clipped


def faded(sound: Sound, samples: int = RATE // 50) -> Sound:
    """The last 20 ms brought to silence, so that a cut is no click."""
    ramp = np.ones(len(sound), np.float32)
    ramp[-samples:] = np.linspace(1, 0, samples, dtype=np.float32)[-len(ramp) :]
    return sound * ramp


def whole_sound(path: Path) -> Sound:
    """A sound file as mono, 16 kHz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        sound: Sound = np.concatenate([block for _, block in heard(container, stream, Timeline(container, stream, Micros(0)))])
        return sound


def pink_noise(noise: Noise, samples: int) -> Sound:
    """Noise whose power falls with frequency, as rooms and streets have it."""
    spectrum: Any = np.fft.rfft(np.random.default_rng(noise.seed).standard_normal(samples))
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1))
    sound = np.fft.irfft(spectrum, samples)
    level: Sound = (sound / np.sqrt(np.mean(sound**2)) * 10 ** (noise.level_db / 20)).astype(np.float32)
    return level

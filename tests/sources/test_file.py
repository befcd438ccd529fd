"""Files as sources: times, rates, sizes, order, and what is refused."""

from __future__ import annotations

import statistics
import threading
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, Micros, Pace
from streamer.sources.feed import Fault, Odd, State, wall
from streamer.sources.file import FileSource
from streamer.stages.ingest import RATE, Pcm, Picture, due
from tests.sources.media import START, film, joined, pictures, recording, sounds, taken, tone


def source(path: Path, *, start: Micros = START, **more: Any) -> FileSource:
    return FileSource(SourceSettings(name="door", url=str(path), **({"pace": Pace.RECORDED} | more)), start=start)


@pytest.mark.parametrize("container", ["film.mp4", "film.mkv", "film.mov"])
def test_a_film_gives_pictures_and_sound_at_their_times(tmp_path: Path, container: str) -> None:
    takes = taken(source(film(tmp_path / container), fps=2))
    shown = pictures(takes)
    assert [round((p.at - START) / MILLISECOND) for p in shown] == pytest.approx([0, 500, 1_000, 1_500, 2_000, 2_500], abs=25)
    assert all(np.diff([p.rgb.mean() for p in shown]) > 10)
    heard = sounds(takes)
    assert sum(len(c.samples) for c in heard) == pytest.approx(3 * RATE, abs=2_048)
    assert abs(heard[0].start - START) < 60 * MILLISECOND
    assert [len(c.samples) for c in heard[:2]] == [RATE, RATE]


def test_takes_come_in_event_time_order(tmp_path: Path) -> None:
    times = [due(take) for take in taken(source(film(tmp_path / "film.mp4"), fps=10))]
    assert times == sorted(times)
    assert len(times) == 30 + 4


def test_the_same_file_with_the_same_start_gives_the_same_bytes(tmp_path: Path) -> None:
    def content() -> list[tuple[int, bytes]]:
        return [(due(t), t.rgb.tobytes() if isinstance(t, Picture) else t.samples.tobytes()) for t in taken(source(path))]

    path = film(tmp_path / "film.mp4")
    assert content() == content()


@pytest.mark.parametrize(("name", "rate", "channels"), [("a.wav", 44_100, 2), ("a.flac", 16_000, 1), ("a.wav", 8_000, 1)])
def test_sound_becomes_mono_16_khz(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    heard = sounds(taken(source(recording(tmp_path / name, seconds=2.5, rate=rate, channels=channels))))
    assert [c.start - START for c in heard] == [0, SECOND, 2 * SECOND]
    whole = np.concatenate([c.samples for c in heard])
    assert len(whole) == pytest.approx(2.5 * RATE, abs=32)
    assert np.corrcoef(whole[2_000:30_000], tone(2.5)[2_000:30_000])[0, 1] > 0.99


def test_pictures_are_never_enlarged_and_never_wider_than_asked(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", seconds=1, size=(640, 360))
    assert {p.rgb.shape for p in pictures(taken(source(path, width=320)))} == {(180, 320, 3)}
    assert {p.rgb.shape for p in pictures(taken(source(path, width=1_280)))} == {(360, 640, 3)}


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", seconds=1)
    assert not sounds(taken(source(path, audio=False)))
    assert not pictures(taken(source(path, video=False)))


def test_a_loop_goes_on_where_the_file_ended(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", seconds=1)
    stop, begun = threading.Event(), wall()
    looping = source(path, start=Micros(begun - 100 * SECOND), pace=Pace.LIVE, loop=True, fps=10, audio=False)
    times = [take.at - begun for take in islice(looping.read(stop), 36) if isinstance(take, Picture)]
    assert len(times) == 35
    assert max(np.diff(times)) < 200 * MILLISECOND
    assert times == sorted(times)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_the_laps_of_a_loop_share_no_event(tmp_path: Path, name: str) -> None:
    path = film(tmp_path / name, seconds=2)
    looping = source(path, start=Micros(wall() // SECOND * SECOND - 1_000 * SECOND), pace=Pace.LIVE, loop=True, fps=10)
    takes = [take for take in islice(looping.read(threading.Event()), 75) if isinstance(take, Picture | Pcm)]
    heard = sounds(takes)
    assert len(heard) > 8
    assert all(earlier.end <= later.start for earlier, later in pairwise(heard))
    shown = [picture.at for picture in pictures(takes)]
    assert all(later > earlier for earlier, later in pairwise(shown))


def test_at_pace_live_nothing_comes_before_its_time(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", seconds=1)
    start = Micros(wall() + 200 * MILLISECOND)
    lags = [
        wall() - due(take)
        for take in source(path, start=start, pace=Pace.LIVE, fps=10).read(threading.Event())
        if not isinstance(take, State)
    ]
    assert len(lags) >= 11
    assert min(lags) > -MILLISECOND, lags
    assert statistics.median(lags) < 400 * MILLISECOND, lags


def test_a_broken_stretch_costs_itself_alone(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", seconds=6)
    data = bytearray(path.read_bytes())
    middle = len(data) // 4
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    assert len(taken(source(path, fps=10))) > 30


@pytest.mark.parametrize("name", ["film.h264", "film.avi"])
def test_pictures_whose_container_has_no_times_for_them_are_all_there(tmp_path: Path, name: str) -> None:
    """A raw stream has none at all; an AVI numbers B-frames in the order of decoding."""
    path = film(tmp_path / name, seconds=6, b_frames=2, codecs=("libx264",))
    shown = pictures(taken(source(path, fps=10, audio=False)))
    assert len(shown) >= 59
    times = [picture.at - shown[0].at for picture in shown]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[-1] == pytest.approx(5.9 * SECOND, abs=0.11 * SECOND)
    assert all(np.diff([picture.rgb.mean() for picture in shown]) >= 0)


def test_a_file_whose_time_starts_again_goes_on_behind_what_was_there(tmp_path: Path) -> None:
    part = film(tmp_path / "part.ts", b_frames=2)
    items = list(source(joined(tmp_path / "twice.ts", part, part), fps=10).read(threading.Event()))
    takes = [item for item in items if not isinstance(item, State)]
    assert [item.fault for item in items if isinstance(item, Odd)] == [Fault.CLOCK, Fault.CLOCK]
    assert [due(take) for take in takes] == sorted(due(take) for take in takes)
    assert len(pictures(takes)) == 60
    assert pictures(takes)[-1].at - START == pytest.approx(5.9 * SECOND, abs=0.1 * SECOND)
    assert sum(len(chunk.samples) for chunk in sounds(takes)) == pytest.approx(6 * RATE, abs=4_096)


@pytest.mark.parametrize("begin", [95_442, 95_443.7])
def test_a_clock_that_wraps_in_mid_film_is_followed(tmp_path: Path, begin: float) -> None:
    """The 33 bits of MPEG-TS are full after 26.5 hours."""
    items = list(source(film(tmp_path / "wrap.ts", begin=begin), fps=10).read(threading.Event()))
    assert not [item for item in items if isinstance(item, Odd)]
    shown = [take.at - START for take in items if isinstance(take, Picture)]
    assert shown == pytest.approx([shown[0] + n * SECOND / 10 for n in range(30)], abs=2 * MILLISECOND)


def test_sound_whose_format_changes_goes_on(tmp_path: Path) -> None:
    parts = [
        film(tmp_path / "a.ts", codecs=("aac",)),
        film(tmp_path / "b.ts", codecs=("aac",), sound_rate=44_100, layout="mono", begin=3),
    ]
    heard = sounds(taken(source(joined(tmp_path / "both.ts", *parts))))
    assert heard[-1].end - START == pytest.approx(6 * SECOND, abs=0.1 * SECOND)
    late = np.concatenate([chunk.samples for chunk in heard])[4 * RATE : 5 * RATE]
    assert np.abs(np.fft.rfft(late)).argmax() == pytest.approx(440, abs=1)


def test_what_cannot_be_played_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    silent = recording(tmp_path / "a.wav", seconds=1)
    for bad, why in [
        (source(tmp_path / "none.mp4"), "No such file"),
        (source(tmp_path / "text.mp4"), "no media file"),
        (source(silent, audio=False), "neither of what is wanted"),
        (source(silent, loop=True), "never ends"),
    ]:
        with pytest.raises(ConfigError, match=why):
            bad.check()
    source(silent).check()

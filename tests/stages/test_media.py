"""Pictures and sound: what is good survives, what is broken or a bomb is refused by name, and quickly."""

from __future__ import annotations

import gc
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Micros
from streamer.stages.fuse import Rgb, Sound
from streamer.stages.media import FULL_SCANS, MAX_SCANS, _blocks, decode_image, decode_sound, encode_flac, encode_jpeg, image_size

# isort: split
import cv2

PIXELS = 34_000_000
MINUTE = Micros(60 * SECOND)


def picture(width: int = 64, height: int = 48) -> Rgb:
    """A gradient: red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([red, green, np.full_like(red, 40)], axis=2).astype(np.uint8)


def noise(width: int = 200, height: int = 150) -> Rgb:
    """A picture whose JPEG is long."""
    return np.random.default_rng(7).integers(0, 255, (height, width, 3), dtype=np.uint8)


def png(rgb: Rgb) -> bytes:
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A grey one bit PNG that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tone(rate: int = 16_000, seconds: float = 1, channels: int = 1, level: float = 0.5) -> NDArray[np.float64]:
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return np.stack([wave] * channels, axis=1)


def sound_file(samples: NDArray[np.float64], rate: int = 16_000, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, format=container, subtype=subtype)
    return target.getvalue()


def refused(call: Callable[..., object], *args: object) -> BadRecord:
    """The refusal, which must take milliseconds of this thread's time."""
    gc.disable()  # what a collection takes depends on all that the tests before have loaded
    began = time.thread_time()
    try:
        with pytest.raises(BadRecord) as caught:
            call(*args)
    finally:
        took = time.thread_time() - began
        gc.enable()
    assert took < 0.25
    assert caught.value.detail.split(":")[0] in ("value", "content-type")
    return caught.value


JPEG, PNG = encode_jpeg(noise(), 85), png(noise())


def test_a_jpeg_comes_back_nearly_as_it_was_and_in_rgb() -> None:
    rgb = decode_image(encode_jpeg(picture(), 95), PIXELS)
    assert rgb.shape == (48, 64, 3)
    assert rgb.dtype == np.dtype(np.uint8)
    assert np.abs(rgb.astype(int) - picture()).mean() < 3


def test_a_png_comes_back_exactly() -> None:
    assert np.array_equal(decode_image(png(picture()), PIXELS), picture())


@pytest.mark.parametrize("quality", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_OPTIMIZE])
def test_other_jpegs_are_read(quality: int) -> None:
    value = bytes(cv2.imencode(".jpg", noise(), [quality, 1])[1])
    assert decode_image(value, PIXELS).shape == (150, 200, 3)


def test_bytes_after_the_end_of_a_picture_do_not_matter() -> None:
    for value in (JPEG, PNG):
        assert decode_image(value + bytes(16), PIXELS).shape == (150, 200, 3)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (JPEG[: len(JPEG) // 2], "cut off"),
        (JPEG[:-2], "cut off"),
        (JPEG[:30], "without a frame header"),
        (b"\xff\xd8", "without a frame header"),
        (b"\xff\xd8" + b"\xff" * 99_999, "without a frame header"),
        (PNG[: len(PNG) // 2], "cut off"),
        (PNG[:-12], "cut off"),
        (PNG[:20], "neither JPEG nor PNG"),
        (b"GIF89a" + bytes(90), "neither JPEG nor PNG"),
        (b"\x00", "neither JPEG nor PNG"),
        (png_of(0, 5, zlib.compress(b"")), "0 x 5"),
        (png_of(10, 10, b"not deflate"), "not a picture"),
        (PNG[:900] + bytes([PNG[900] ^ 255]) + PNG[901:], "not a picture"),
        (JPEG[:-2] + b"\xff\xda" * (MAX_SCANS + 1) + b"\xff\xd9", "scans"),
    ],
    ids=range(14),
)
def test_a_broken_picture_is_a_bad_payload(value: bytes, why: str) -> None:
    error = refused(decode_image, value, PIXELS)
    assert error.reason == Reason.BAD_PAYLOAD
    assert why in error.detail


def test_an_empty_picture_is_empty() -> None:
    assert refused(decode_image, b"", PIXELS).reason == Reason.EMPTY


def test_a_picture_of_943_megapixels_is_refused_before_it_is_decoded() -> None:
    side = 30_709
    row = bytes((side + 7) // 8 + 1)
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(row * 1_000) for _ in range(side // 1_000 + 1)) + deflate.flush()
    value = png_of(side, side, data)
    assert len(value) < 200_000
    error = refused(decode_image, value, PIXELS)
    assert error.reason == Reason.TOO_MANY_PIXELS
    assert "30709 x 30709" in error.detail


def test_a_jpeg_over_the_settings_limit_is_refused_with_both_numbers() -> None:
    error = refused(decode_image, JPEG, 29_999)
    assert (error.reason, error.detail) == (Reason.TOO_MANY_PIXELS, "value: 200 x 150 pixels exceed 29999")
    assert decode_image(JPEG, 30_000).shape == (150, 200, 3)


def with_scans(count: int) -> bytes:
    """A progressive JPEG of 200 x 150 pixels whose last scan is repeated."""
    value = bytes(cv2.imencode(".jpg", noise(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    last = value[value.rfind(b"\xff\xda") : -2]
    return value[:-2] + last * (count - value.count(b"\xff\xda")) + value[-2:]


def test_the_larger_a_picture_the_fewer_scans_it_may_have() -> None:
    assert decode_image(with_scans(FULL_SCANS), 30_000).shape == (150, 200, 3)
    assert decode_image(with_scans(MAX_SCANS), 3_000_000).shape == (150, 200, 3)
    error = refused(decode_image, with_scans(FULL_SCANS + 1), 30_000)
    assert (error.reason, error.detail) == (Reason.TOO_MANY_PIXELS, "value: 13 scans of 200 x 150 pixels exceed 12 of 30000")


@pytest.mark.parametrize("junk", [b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\xfe\x00\x02"], ids=range(4))
def test_a_size_is_looked_for_in_milliseconds(junk: bytes) -> None:
    assert refused(image_size, b"\xff\xd8" + junk * (8_000_000 // len(junk))).reason == Reason.BAD_PAYLOAD


@pytest.mark.parametrize("first", ["streamer", "streamer.stages.media", "streamer.engine"])
def test_opencvs_own_limit_is_set_before_it_is_loaded(first: str) -> None:
    """A picture over that limit but under OpenCV's default one: good, and decoded were it not for the limit."""
    code = f"import {first}, sys, cv2, numpy as np; cv2.imdecode(np.frombuffer(sys.stdin.buffer.read(), np.uint8), 1)"
    value = png_of(12_000, 12_000, zlib.compress(bytes(1_501 * 12_000), 1))
    env = {name: value for name, value in os.environ.items() if name != "OPENCV_IO_MAX_IMAGE_PIXELS"}  # this process has set it
    done = subprocess.run([sys.executable, "-c", code], input=value, capture_output=True, check=False, env=env)
    assert done.returncode == 1
    assert b"CV_IO_MAX_IMAGE_PIXELS" in done.stderr


@given(st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_a_size_is_read_from_the_header_as_opencv_reads_it(width: int, height: int, progressive: bool) -> None:
    value = bytes(cv2.imencode(".jpg", picture(width, height), [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1])
    assert image_size(value) == image_size(png(picture(width, height))) == (width, height)


@given(st.sampled_from([JPEG, PNG]), st.integers(2, 700), st.binary(max_size=40))
def test_a_damaged_picture_gives_a_picture_or_a_bad_record(value: bytes, place: int, junk: bytes) -> None:
    try:
        assert decode_image(value[:place] + junk + value[place + len(junk) :], PIXELS).ndim == 3
    except BadRecord as exc:
        assert exc.reason in (Reason.BAD_PAYLOAD, Reason.TOO_MANY_PIXELS)


FLAC, WAV = encode_flac(tone()[:, 0].astype(np.float32)), sound_file(tone())


@given(arrays.arrays(np.int16, st.integers(1, 2_000)))
def test_sixteen_bit_sound_round_trips_exactly(pcm: NDArray[np.int16]) -> None:
    sound = pcm.astype(np.float32) / np.float32(32_768)
    assert np.array_equal(decode_sound(encode_flac(sound), "audio/flac", MINUTE), sound)


def test_sound_beyond_full_scale_is_clipped() -> None:
    assert decode_sound(encode_flac(np.array([-2, 2, 0], np.float32)), "audio/flac", MINUTE).tolist() == [-1, 32_767 / 32_768, 0]
    loud = decode_sound(sound_file(tone(level=3), subtype="FLOAT"), "audio/wav", MINUTE)
    assert (loud.min(), loud.max()) == (-1, 1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("WAVEX", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
)
def test_any_rate_and_channels_become_the_same_mono_tone(rate: int, channels: int, container: str, subtype: str) -> None:
    value = sound_file(tone(rate, channels=channels), rate, container, subtype)
    sound = decode_sound(value, "audio/flac" if container == "FLAC" else "audio/x-wav", MINUTE)
    assert sound.shape == (16_000,)
    assert sound.dtype == np.dtype(np.float32)
    assert np.abs(sound - tone()[:, 0])[200:-200].max() < 1e-3


def test_channels_are_averaged() -> None:
    opposite = tone(channels=2) * [1, -1]
    assert np.abs(decode_sound(sound_file(opposite), "audio/wav", MINUTE)).max() < 1e-4


def without_length(flac: bytes) -> bytes:
    """The same FLAC with the number of samples in its header put to 0, as an encoder writes it to a pipe."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def claiming(flac: bytes, samples: int) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4) + flac[26:]


@pytest.mark.parametrize(
    ("value", "kind", "reason", "why"),
    [
        (b"", "audio/flac", Reason.EMPTY, "empty"),
        (sound_file(tone(seconds=0)), "audio/wav", Reason.EMPTY, "no samples"),
        (FLAC, "audio/mpeg", Reason.CONTENT_TYPE, "audio/flac, audio/wav"),
        (FLAC, "audio/wav", Reason.BAD_PAYLOAD, "not WAV"),
        (WAV, "audio/flac", Reason.BAD_PAYLOAD, "not FLAC"),
        (b"OggS" + FLAC[4:], "audio/flac", Reason.BAD_PAYLOAD, "not FLAC"),
        (FLAC[: len(FLAC) // 2], "audio/flac", Reason.BAD_PAYLOAD, "libsndfile"),
        (FLAC[:60], "audio/flac", Reason.BAD_PAYLOAD, "libsndfile"),
        (b"fLaC", "audio/flac", Reason.BAD_PAYLOAD, "libsndfile"),
        (without_length(FLAC), "audio/flac", Reason.BAD_PAYLOAD, "does not say its length"),
        (WAV[: len(WAV) // 2], "audio/wav", Reason.BAD_PAYLOAD, "cut off"),
        (WAV[:44], "audio/wav", Reason.BAD_PAYLOAD, "cut off"),
        (WAV[:20], "audio/wav", Reason.BAD_PAYLOAD, "libsndfile"),
        (sound_file(tone(1_000), 1_000), "audio/wav", Reason.BAD_PAYLOAD, "1000 Hz"),
        (sound_file(tone(channels=9)), "audio/wav", Reason.BAD_PAYLOAD, "9 channels"),
        (sound_file(tone() * np.nan, subtype="FLOAT"), "audio/wav", Reason.BAD_PAYLOAD, "not finite"),
        (sound_file(tone() + np.inf, subtype="FLOAT"), "audio/wav", Reason.BAD_PAYLOAD, "not finite"),
        (claiming(FLAC, 20_000), "audio/flac", Reason.BAD_PAYLOAD, "value: "),
        (claiming(FLAC, 2**36 - 1), "audio/flac", Reason.TOO_LONG, "60 s"),
        (sound_file(tone(8_000, 60.01), 8_000), "audio/wav", Reason.TOO_LONG, "60 s"),
    ],
    ids=range(20),
)
def test_broken_sound_is_named(value: bytes, kind: str, reason: Reason, why: str) -> None:
    error = refused(decode_sound, value, kind, MINUTE)
    assert error.reason == reason
    assert why in error.detail


def test_the_longest_sound_allowed_is_read_to_its_last_sample() -> None:
    assert len(decode_sound(sound_file(tone(seconds=2)), "audio/wav", Micros(2 * SECOND))) == 32_000
    assert refused(decode_sound, sound_file(tone(seconds=2)), "audio/wav", Micros(2 * SECOND - 1)).reason == Reason.TOO_LONG


def test_hours_of_silence_in_a_small_flac_are_refused_before_they_are_decoded() -> None:
    bomb = sound_file(np.zeros((16_000 * 3_600 * 2, 1)), container="FLAC")
    assert len(bomb) < 500_000
    assert refused(decode_sound, bomb, "audio/flac", MINUTE).reason == Reason.TOO_LONG


class Endless:
    """Stands for a file whose header says less than its decoder gives."""

    samplerate, channels, frames = 16_000, 1, 100

    def __init__(self) -> None:
        self.read_in_all = 0

    def read(self, count: int, **_: object) -> NDArray[np.float32]:
        self.read_in_all += count
        return np.zeros((count, 1), np.float32)


def test_sound_that_does_not_end_is_left_off_at_the_longest_allowed() -> None:
    source = Endless()
    with pytest.raises(BadRecord) as caught:
        list(_blocks(source, Micros(10 * SECOND)))  # type: ignore[arg-type]
    assert caught.value.reason == Reason.TOO_LONG
    assert source.read_in_all == 160_001


def test_a_wav_from_a_pipe_does_not_know_its_length_and_is_read() -> None:
    piped = WAV[:4] + b"\xff\xff\xff\xff" + WAV[8:40] + b"\xff\xff\xff\xff" + WAV[44:]
    assert len(decode_sound(piped, "audio/wav", MINUTE)) == 16_000


@given(st.sampled_from([FLAC, WAV]), st.integers(4, 200), st.binary(max_size=40))
def test_damaged_sound_gives_sound_or_a_bad_record(value: bytes, place: int, junk: bytes) -> None:
    damaged = value[:place] + junk + value[place + len(junk) :]
    try:
        sound: Sound = decode_sound(damaged, "audio/flac" if value is FLAC else "audio/wav", MINUTE)
    except BadRecord as exc:
        assert exc.reason in (Reason.BAD_PAYLOAD, Reason.TOO_LONG, Reason.EMPTY)
    else:
        assert np.abs(sound).max() <= 1


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"IEND"])
def test_a_png_chunk_that_claims_more_than_there_is_is_refused_before_it_is_read(kind: bytes) -> None:
    """OpenCV would allocate the 4 GB that these bytes claim."""
    whole = png_of(8, 8, zlib.compress(bytes(16)))
    value = whole[:33] + (0xFFFFFFF0).to_bytes(4) + kind + bytes(20) + whole[-12:]
    error = refused(decode_image, value, PIXELS)
    assert error.reason == Reason.BAD_PAYLOAD
    assert "cut off" in error.detail


def test_a_png_that_ends_in_the_data_of_another_chunk_is_cut_off() -> None:
    value = PNG[:33] + (24).to_bytes(4) + b"tEXt" + PNG[-12:] + bytes(12) + bytes(4)
    assert "cut off" in refused(decode_image, value, PIXELS).detail

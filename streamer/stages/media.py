"""Pictures and sound: bytes to arrays and back. Everything is bounded before it is expanded.

A 115 KB PNG can hold 943 megapixels, a 546 KB FLAC 1.3 GB of silence, and a header may claim anything. So a picture's size
is read from its header first, and sound is decoded block by block up to the longest chunk allowed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import av
import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Micros
from streamer.stages.fuse import Rgb, Sound

RATE = 16_000  # samples per second, everywhere behind ingest
BLOCK = 65_536  # samples per channel decoded at once
MAX_CHANNELS = 8
RATES = range(4_000, 192_001)
MAX_SCANS = 64  # of a progressive JPEG: each costs a pass over the whole picture
FULL_SCANS = 12  # of a picture as large as may be; libjpeg's own script writes 10, a preview in the EXIF data adds some
MAX_SEGMENTS = 1_000  # before the frame header of a JPEG
_FULL_SCALE = 32_768
_UNKNOWN = (1 << 63) - 1  # libsndfile's number of samples where the header has none
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = 12  # bytes of a PNG's chunk beside its data: length, kind, checksum
_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_BARE = frozenset(range(0xD0, 0xD9)) | {0x00, 0x01}  # markers without a length, and no marker at all
_MARKER = re.compile(rb"\xff[^\xff]")
_CONTAINER = {"audio/flac": (b"fLaC", "FLAC"), "audio/wav": (b"RIFF", "WAV"), "audio/x-wav": (b"RIFF", "WAV")}
_STREAMED = 0x7FFFF000  # RIFF sizes from here on, and 0, say "written to a pipe, length unknown"


def decode_image(value: bytes, max_pixels: int) -> Rgb:
    """JPEG or PNG to Height x Width x 3. Raises BadRecord: empty, bad_payload, too_many_pixels."""
    if not value:
        raise BadRecord(Reason.EMPTY, "value: is empty")
    width, height = image_size(value)
    if width * height > max_pixels:
        raise BadRecord(Reason.TOO_MANY_PIXELS, f"value: {width} x {height} pixels exceed {max_pixels}")
    if (scans := _scans(value)) * width * height > FULL_SCANS * max_pixels:
        raise BadRecord(Reason.TOO_MANY_PIXELS, f"value: {scans} scans of {width} x {height} pixels exceed {FULL_SCANS} of {max_pixels}")
    if not _is_complete(value):
        raise BadRecord(Reason.BAD_PAYLOAD, "value: the picture is cut off")
    try:
        image = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as exc:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: OpenCV refuses the picture: {exc.err}") from None
    if image is None or {*image.shape[:2]} != {width, height}:  # EXIF may have turned it
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: not a picture of {width} x {height} pixels, as its header says")
    return np.asarray(image, np.uint8)


def image_size(value: bytes) -> tuple[int, int]:
    """(width, height) from the header of a JPEG or PNG, decoding nothing. Raises BadRecord."""
    if value.startswith(_PNG) and value[12:16] == b"IHDR" and len(value) >= 24:
        size = int.from_bytes(value[16:20]), int.from_bytes(value[20:24])
    elif value.startswith(b"\xff\xd8"):
        size = _jpeg_size(value)
    else:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: starts with {value[:8].hex(' ')}: neither JPEG nor PNG")
    if not all(size):
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: a picture of {size[0]} x {size[1]} pixels")
    return size


def encode_jpeg(rgb: Rgb, quality: int) -> bytes:
    """Height x Width x 3 to JPEG; `quality` 1 to 100."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode a picture of shape {rgb.shape}")
    return bytes(encoded)


def decode_sound(value: bytes, content_type: str, longest: Micros) -> Sound:
    """FLAC or WAV to mono samples at 16 kHz. Raises BadRecord: empty, content_type, bad_payload, too_long.

    Channels are averaged; other rates are resampled (libswresample), samples beyond full scale clipped.
    """
    if not value:
        raise BadRecord(Reason.EMPTY, "value: is empty")
    if content_type not in _CONTAINER:
        raise BadRecord(Reason.CONTENT_TYPE, f"content-type: not one of {', '.join(_CONTAINER)}")
    magic, container = _CONTAINER[content_type]
    if not value.startswith(magic):
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: starts with {value[:4].hex(' ')}: not {container}")
    try:
        with soundfile.SoundFile(io.BytesIO(value)) as source:
            if source.format not in (container, "WAVEX"):
                raise BadRecord(Reason.BAD_PAYLOAD, f"value: is {source.format}, not {container}")
            rate: int = source.samplerate
            samples = np.concatenate([np.empty(0, np.float32), *_blocks(source, longest)])
            _check_length(source, value, len(samples))
    except soundfile.LibsndfileError as exc:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: libsndfile refuses it: {exc.error_string or exc.code}") from None
    return samples if rate == RATE else _resample(samples, rate)


def encode_flac(sound: Sound) -> bytes:
    """Mono samples at 16 kHz to 16 bit FLAC; samples beyond full scale are clipped."""
    pcm = np.clip(np.rint(sound * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    target = io.BytesIO()
    soundfile.write(target, pcm, RATE, format="FLAC", subtype="PCM_16")
    return target.getvalue()


def _jpeg_size(value: bytes) -> tuple[int, int]:
    """Walk the segments to the first start-of-frame. Their number is bounded: this runs where nothing may take long."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(value, at)
        if not found or found.end() + 7 > len(value):
            break
        marker, at = value[found.end() - 1], found.end()
        if marker in _SIZED:
            return int.from_bytes(value[at + 5 : at + 7]), int.from_bytes(value[at + 3 : at + 5])
        if marker not in _BARE:
            at += max(2, int.from_bytes(value[at : at + 2]))
    raise BadRecord(Reason.BAD_PAYLOAD, "value: a JPEG without a frame header")


def _scans(value: bytes) -> int:
    """How often a JPEG's decoder goes over the picture, at most: in compressed data 0xFF never stands before anything but 0x00."""
    return 0 if value.startswith(_PNG) else value.count(b"\xff\xda")


def _is_complete(value: bytes) -> bool:
    """The decoder paints what is missing of a cut JPEG grey and says nothing: only its end marker tells."""
    if value.startswith(_PNG):
        return _is_whole_png(value)
    if _scans(value) > MAX_SCANS:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: a JPEG of more than {MAX_SCANS} scans")
    return value.rfind(b"\xff\xd9") > value.rfind(b"\xff\xda") >= 0


def _is_whole_png(value: bytes) -> bool:
    """Walk the chunks to the last: OpenCV allocates what a chunk claims before it looks whether that is there."""
    at, kind = len(_PNG), b""
    while at < len(value) and kind != b"IEND":
        kind = value[at + 4 : at + 8]
        at += _CHUNK + int.from_bytes(value[at : at + 4])
    return kind == b"IEND" and at <= len(value)


def _blocks(source: soundfile.SoundFile, longest: Micros) -> Iterator[NDArray[np.float32]]:
    """Mono blocks at the source's own rate, never more than `longest` of them together."""
    rate, channels = source.samplerate, source.channels
    if rate not in RATES or channels > MAX_CHANNELS:
        raise BadRecord(
            Reason.BAD_PAYLOAD, f"value: {channels} channels at {rate} Hz, not 1 to {MAX_CHANNELS} at {RATES[0]} to {RATES[-1]} Hz"
        )
    most, done = longest * rate // SECOND, 0
    too_long = BadRecord(Reason.TOO_LONG, f"value: more than {longest / SECOND:g} s of sound")
    if source.frames == _UNKNOWN:
        raise BadRecord(Reason.BAD_PAYLOAD, "value: a FLAC whose header does not say its length")
    if source.frames > most:
        raise too_long
    while len(block := source.read(min(BLOCK, most + 1 - done), dtype="float32", always_2d=True)):
        done += len(block)
        if done > most:
            raise too_long
        if not np.isfinite(block).all():
            raise BadRecord(Reason.BAD_PAYLOAD, "value: samples that are not finite numbers")
        yield np.clip(block, -1, 1).mean(axis=1, dtype=np.float32)


def _check_length(source: soundfile.SoundFile, value: bytes, count: int) -> None:
    """All that the header promises is there, and it is something."""
    promised = int.from_bytes(value[4:8], "little") + 8 if value.startswith(b"RIFF") else 0
    if count < source.frames or len(value) < promised < _STREAMED:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: the sound is cut off after {count} samples")
    if not count:
        raise BadRecord(Reason.EMPTY, "value: no samples")


def _resample(samples: Sound, rate: int) -> Sound:
    """To 16 kHz, to exactly as many samples as the length in time asks for."""
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    wanted = -(-len(samples) * RATE // rate)
    resampled: Sound = np.concatenate([*parts, np.zeros(wanted, np.float32)])[:wanted]
    return np.clip(resampled, -1, 1)

"""Settings: frozen values that cannot be wrong. One YAML file serves every role; each role reads its part.

Durations are written "300ms", "2s", "10min", "1h" or as plain seconds, and held as `Micros`. Secrets are named, not
written: `secret_env: NAME` says which environment variable holds one (the command line reads it, nobody else).
"""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, Micros, Modality, Pace

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(us|ms|s|min|h)$")
_QUOTED = re.compile(r"""(['"])(?!<)[^'"]{2,}\1""")  # in a message of PyYAML: the file's own words, but not the names of its tokens
_FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,40}$")
_UNIT = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}


def parse_duration(value: Any) -> Micros:
    """ "300ms" -> 300_000. Plain numbers are seconds. Raises ValueError with the forms that are allowed."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Micros(round(value * SECOND))
    if isinstance(value, str) and (found := _DURATION.match(value.strip())):
        return Micros(round(float(found[1]) * _UNIT[found[2]]))
    raise ValueError('a duration is "300ms", "2s", "10min", "1h" or a number of seconds')


MOST_OFFSET = Micros(14 * 3_600 * SECOND)
"""The widest time zone: a clock that is further off is not one that an offset mends."""


def parse_offset(value: Any) -> Micros:
    """A duration that may be negative: "-250ms". Raises ValueError beyond `MOST_OFFSET`, with both numbers."""
    negative = isinstance(value, str) and value.strip().startswith("-")
    offset = parse_duration(value.strip()[1:].strip() if negative else value) * (-1 if negative else 1)
    if abs(offset) > MOST_OFFSET:
        raise ValueError(f"an offset of {offset} us is beyond {MOST_OFFSET} us (14 h, the widest time zone)")
    return Micros(offset)


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(lambda us: f"{us}us", when_used="json"), Field(ge=0)]
Offset = Annotated[int, BeforeValidator(parse_offset), PlainSerializer(lambda us: f"{us}us", when_used="json")]
Id = Annotated[str, Field(pattern=ID)]


class Settings(BaseModel):
    """Common rules: frozen, unknown keys refused, and a value is never printed in an error (it may be a secret)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(Settings):
    """The broker. `bootstrap: embedded` starts one inside `streamer run` (memory only, for trying things out).

    `idempotent` is for the producers; the embedded broker has none of it, so `streamer run` turns it off there.
    `instance` is this worker's lasting name in its consumer group (static membership): restarted within `session_timeout` it
    has its partitions back at once, and nobody else's move; stopped for longer, they stay without a worker for that long. No
    two workers of a role may have the same one: beside a shared file, `streamer role NAME --instance` sets it.
    """

    bootstrap: str = "embedded"
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    replication: Annotated[int, Field(ge=1, le=9)] = 1
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password_env: str | None = None
    ca_file: Path | None = None
    session_timeout: Duration = Micros(10 * SECOND)
    instance: Id | None = None
    idempotent: bool = True
    embedded_memory_mb: Annotated[int, Field(ge=64)] = 2_048


class SourceSettings(Settings):
    """One camera, microphone or file. `url` is rtsp://..., a file's path, or scene:PATH for a composed scene.

    `start` is the event time of a file's first sample: an RFC 3339 time, or `now` (rounded up to a hop).
    `username`/`password_env` are for RTSP; a login inside the url works too and is never logged.
    """

    name: Id
    url: str
    video: bool = True
    audio: bool = True
    pace: Pace = Pace.LIVE
    start: str = "now"
    fps: Annotated[float, Field(gt=0, le=60)] = 2.0
    width: Annotated[int, Field(ge=64, le=7_680)] = 768
    quality: Annotated[int, Field(ge=10, le=100)] = 85
    loop: bool = False
    stall: Duration = Micros(10 * SECOND)
    username: str | None = None
    password_env: str | None = None


class OffsetSettings(Settings):
    """What is added to the event times of one source, ours or another producer's: -2s for a clock that is 2 s ahead.

    Without `modality`: frames and audio, since one device has one clock. Words that our transcribe makes of that audio follow it.
    """

    source: Id
    modality: Modality | None = None
    offset: Offset

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The tracks that it is for."""
        return (self.modality,) if self.modality else (Modality.FRAMES, Modality.AUDIO)


class SessionSettings(Settings):
    """One watched place and its sources. `expect` lists modalities that alignment waits for from the start.

    A source's name is its track's identity, so names differ; a session is live or recorded as a whole (DESIGN section 2).
    `offsets` are for clocks that are known to be wrong (`streamer align inspect` shows what is estimated of them).
    """

    id: Id
    sources: tuple[SourceSettings, ...] = ()
    expect: tuple[Modality, ...] | None = None
    offsets: tuple[OffsetSettings, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [source.name for source in self.sources]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"source names must differ within session {self.id}, twice: {', '.join(double)}")
        if len({source.pace for source in self.sources}) > 1:
            paces = ", ".join(f"{source.name} is {source.pace.value}" for source in self.sources)
            raise ValueError(f"the sources of session {self.id} must have one pace, live or recorded: {paces}")
        tracks = [f"{one.source}/{modality.value}" for one in self.offsets for modality in one.modalities]
        if double := sorted({track for track in tracks if tracks.count(track) > 1}):
            raise ValueError(f"session {self.id} has more than one offset for: {', '.join(double)}")
        return self

    def expected(self) -> tuple[Modality, ...]:
        """What to wait for: `expect` if given, else what the sources carry (transcripts where there is audio)."""
        if self.expect is not None:
            return self.expect
        found = set[Modality]()
        for source in self.sources:
            found |= {Modality.FRAMES} if source.video else set()
            found |= {Modality.AUDIO, Modality.TRANSCRIPTS} if source.audio else set()
        return tuple(sorted(found))


class AlignSettings(Settings):
    """How windows are cut, how long one waits, and what is late. See the laws in DESIGN and `stages/align`.

    References to events, in a whole process or of one session: past `max_events` or `max_session_events` in windows that are
    not out, the oldest go out early; at `max_held` or `max_session_held` in all windows that are remembered, events are refused.
    `clock_offset`, `clock_drift_ppm`: a source's clock that seems further off is reported; nothing else follows from it.
    """

    length: Duration = Micros(2 * SECOND)
    hop: Duration = Micros(1 * SECOND)
    bound_frames: Duration = Micros(300 * MILLISECOND)
    bound_audio: Duration = Micros(300 * MILLISECOND)
    bound_transcripts: Duration = Micros(300 * MILLISECOND)
    wait_for: tuple[Modality, ...] = (Modality.FRAMES, Modality.AUDIO)
    patience: Duration = Micros(3 * SECOND)
    horizon: Duration = Micros(120 * SECOND)
    idle: Duration = Micros(5 * SECOND)
    session_end: Duration = Micros(600 * SECOND)
    skew: Duration = Micros(5 * SECOND)
    recorded_span: Duration = Micros(24 * 3_600 * SECOND)
    longest_event: Duration = Micros(60 * SECOND)
    max_events: Annotated[int, Field(ge=1_000)] = 1_000_000
    max_session_events: Annotated[int, Field(ge=1_000)] = 100_000
    max_held: Annotated[int, Field(ge=10_000)] = 10_000_000
    max_session_held: Annotated[int, Field(ge=10_000)] = 1_000_000
    clock_offset: Annotated[Duration, Field(gt=0)] = Micros(1 * SECOND)
    clock_drift_ppm: Annotated[float, Field(gt=0)] = 200.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 0 < self.hop <= self.length:
            raise ValueError(f"hop={self.hop} us must be in (0, length={self.length} us]")
        if self.horizon < self.length:
            raise ValueError(f"horizon={self.horizon} us is shorter than length={self.length} us")
        if self.session_end < self.idle:
            raise ValueError(f"session_end={self.session_end} us is shorter than idle={self.idle} us")
        return self

    def bound(self, modality: Modality) -> Micros:
        """How far behind a track's progress its watermark stays, in microseconds."""
        return Micros(
            {
                Modality.FRAMES: self.bound_frames,
                Modality.AUDIO: self.bound_audio,
                Modality.TRANSCRIPTS: self.bound_transcripts,
            }[modality]
        )


class TranscribeSettings(Settings):
    """Speech to text. `longest` bounds a segment; the filters say what counts as speech at all.

    `context`: how much Whisper hears of what is at least a second shorter. 30 s, as it was trained, takes three times as long.
    `nice`: how far its process gives way to others of the machine (0: not). Words come after their windows anyway.
    """

    context: Annotated[Duration, Field(ge=5 * SECOND, le=30 * SECOND)] = Micros(12 * SECOND)
    longest: Duration = Micros(10 * SECOND)
    pause: Duration = Micros(500 * MILLISECOND)
    vad_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_no_speech: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_log_probability: Annotated[float, Field(le=0)] = -1.0
    max_compression_ratio: Annotated[float, Field(gt=0)] = 2.4
    language: str | None = "en"
    nice: Annotated[int, Field(ge=0, le=19)] = 5


class InferSettings(Settings):
    """The GPU worker: which weights, where they run, how large a batch and how long it may wait to fill.

    `shed`: while live windows wait for infer longer than `shed_after`, and it is not catching up, fewer frames are encoded,
    down to about `shed_floor` of each camera in a window. A score lists those as absent; audio and words are never left out.
    """

    profile: Literal["bundled", "tiny"] = "bundled"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1_024)] = 16
    batch_wait: Duration = Micros(20 * MILLISECOND)
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 2
    cache_mb: Annotated[int, Field(ge=16)] = 512
    max_pixels: Annotated[int, Field(ge=10_000)] = 34_000_000
    max_audio: Duration = Micros(60 * SECOND)
    shed: bool = True
    shed_after: Annotated[Duration, Field(ge=100 * MILLISECOND)] = Micros(5 * SECOND)
    shed_floor: Annotated[int, Field(ge=1, le=64)] = 1


class LogSinkSettings(Settings):
    """One line per alert on the terminal or in the log."""

    type: Literal["log"] = "log"
    name: Id = "log"


class WebhookSinkSettings(Settings):
    """Signed POST (Standard Webhooks). `secret_env` names the variable that holds the `whsec_...` secret.

    Plain http is for loopback only, unless `allow_http`. An address that is not public (10.0.0.7, a name of this network)
    needs `allow_private`. `timeout` bounds a whole attempt, from the look-up of the name to the last header of the answer.
    """

    type: Literal["webhook"] = "webhook"
    name: Id
    url: str
    secret_env: str
    allow_http: bool = False
    allow_private: bool = False
    timeout: Annotated[Duration, Field(gt=0)] = Micros(10 * SECOND)


Sink = Annotated[LogSinkSettings | WebhookSinkSettings, Field(discriminator="type")]


class DeliverSettings(Settings):
    """Where alerts go. Each sink has its own position: a slow one holds up no other."""

    sinks: tuple[Sink, ...] = (LogSinkSettings(),)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if len(names) != len(set(names)):
            raise ValueError(f"sink names must differ, got {names}")
        return self


class HealthSettings(Settings):
    """`/metrics`, `/livez` and `/readyz`. Role number n listens on port + n; port 0 picks a free one for each."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_000)] = 9_460


class Config(Settings):
    """The whole file."""

    version: Literal[1] = 1
    kafka: KafkaSettings = KafkaSettings()
    sessions: tuple[SessionSettings, ...] = ()
    align: AlignSettings = AlignSettings()
    transcribe: TranscribeSettings = TranscribeSettings()
    infer: InferSettings = InferSettings()
    rules: Path | None = None
    deliver: DeliverSettings = DeliverSettings()
    health: HealthSettings = HealthSettings()
    home: Path | None = None

    @model_validator(mode="after")
    def _unique(self) -> Self:
        ids = [session.id for session in self.sessions]
        if len(ids) != len(set(ids)):
            raise ValueError(f"session ids must differ, got {ids}")
        return self


def load(path: Path) -> Config:
    """Read and check a YAML file; relative paths in it count from its own folder. Raises ConfigError, naming each wrong field."""
    return parse(read_yaml(path) or {}, origin=str(path), folder=path.parent)


def read_yaml(path: Path | Traversable) -> Any:
    """What stands in a YAML file. Raises ConfigError with the place and the problem, but without the text: it may hold a login."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError, yaml.YAMLError) as exc:
        raise ConfigError(f"{path} is not YAML: {_problem(exc)}") from None


def _problem(exc: Exception) -> str:
    """Line, column and what is wrong there. Whatever PyYAML quotes from the file is left out."""
    if isinstance(exc, yaml.MarkedYAMLError):
        mark = exc.problem_mark or exc.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return where + _QUOTED.sub("(...)", exc.problem or exc.context or "wrong")
    if isinstance(exc, yaml.reader.ReaderError):
        return f"character {exc.position + 1}: {exc.reason}"
    if isinstance(exc, UnicodeDecodeError):
        return f"byte {exc.start + 1} is not UTF-8"
    return "it is nested too deep" if isinstance(exc, RecursionError) else "a date or number in it does not exist"


def parse(raw: object, *, origin: str = "configuration", folder: Path | None = None) -> Config:
    """Check a mapping as it comes out of YAML. Raises ConfigError with one line for each wrong field."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as exc:
        raise ConfigError(f"{origin} is not valid:\n{wrong_fields(exc)}") from None
    return _anchored(config, folder.resolve()) if folder else config


def wrong_fields(exc: ValidationError) -> str:
    """One line for each wrong field. A key that cannot be a field is not shown: `url:rtsp://...` without a space is a key."""
    lines = []
    for error in exc.errors(include_input=False):
        place = [str(part) if isinstance(part, int) or _FIELD.match(part) else "(a key that is none)" for part in error["loc"]]
        lines.append(f"  {'.'.join(place) or 'file'}: {error['msg']}")
    return "\n".join(lines)


def _anchored(config: Config, folder: Path) -> Config:
    """Relative paths made absolute: the children of `streamer run` get this configuration, not the file."""
    sessions = tuple(
        session.model_copy(update={"sources": tuple(_at(source, folder) for source in session.sources)}) for session in config.sessions
    )
    kafka = config.kafka.model_copy(update={"ca_file": _under(folder, config.kafka.ca_file)})
    paths = {"rules": _under(folder, config.rules), "home": _under(folder, config.home)}
    return config.model_copy(update={"kafka": kafka, "sessions": sessions, **paths})


def _under(folder: Path, path: Path | None) -> Path | None:
    return folder / path if path else None


def _at(source: SourceSettings, folder: Path) -> SourceSettings:
    if "://" in source.url:
        return source
    scheme, path = ("scene:", source.url[6:]) if source.url.startswith("scene:") else ("", source.url)
    return source.model_copy(update={"url": f"{scheme}{folder / path}"})

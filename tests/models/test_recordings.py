"""Recordings as data: the laws of the manifest, and .deb packages read without being installed."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import cramjam
import pytest

from models import packages, recordings
from models.classes import CLASSES
from models.packages import PackageError, State
from models.recordings import ACOUSTIC, OTHERS, Clip, Kind, Modality, Package, Split

SOUND = b"a sound " * 1_000
MEMBER = "usr/share/game/bang.ogg"
MANIFEST = recordings.manifest()
PAIRS = [(package, clip) for package in MANIFEST for clip in package.clips]

Tar = list[tuple[str, bytes | str]]  # a member's name, and its content or where it leads to as a link


def a_clip(member: str = MEMBER, content: bytes = SOUND, path: str = "gunshot/bang.ogg") -> Clip:
    return Clip(
        path=path,
        member=member,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        label="gunshot",
        modality=Modality.AUDIO,
        recording="bang",
        split=Split.TRAIN,
        seconds=1,
    )


def a_package(*clips: Clip, sha256: str = "0" * 64) -> Package:
    return Package(kind=Kind.DEBIAN, name="game", version="1.0-1", sha256=sha256, size=1, licence="MIT", origin="test", clips=clips)


def a_tar(members: Tar) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def a_deb(folder: Path, data: bytes, name: str = "data.tar.xz") -> Path:
    """An ar archive of three members, the second of odd length, as dpkg-deb writes it."""
    path = folder / "game_1.0-1_all.deb"
    sections = (("debian-binary", b"2.0\n"), ("control.tar.xz", lzma.compress(a_tar([("./control", b"odd")])) + b"\0"), (name, data))
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for title, content in sections:
            out.write(f"{title:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2))
    return path


def packed(members: Tar) -> bytes:
    return lzma.compress(a_tar(members))


def extract(deb: Path, target: Path, *clips: Clip) -> list[str]:
    """What landed."""
    with packages.aside_of(target, target) as aside:
        packages.extract_deb(deb, clips, aside, target)
    return landed(target)


def landed(target: Path) -> list[str]:
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def splits_of(label: str) -> dict[str, set[Split]]:
    """For each package that has the label: the splits of its clips."""
    found: dict[str, set[Split]] = defaultdict(set)
    for package, clip in PAIRS:
        if clip.label == label:
            found[package.name].add(clip.split)
    return found


def test_every_recording_is_in_exactly_one_split() -> None:
    found: dict[tuple[str, str], set[Split]] = defaultdict(set)
    for package, clip in PAIRS:
        found[package.name, clip.recording].add(clip.split)
    assert [key for key, splits in found.items() if len(splits) != 1] == []


def test_the_same_bytes_are_never_in_two_recordings() -> None:
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for package, clip in PAIRS:
        found[clip.sha256].add((package.name, clip.recording))
    assert [keys for keys in found.values() if len(keys) != 1] == []


@pytest.mark.parametrize("label", ACOUSTIC)
def test_every_acoustic_class_has_recordings_to_learn_from_and_to_be_tested_with(label: str) -> None:
    splits = splits_of(label)
    assert len(splits) >= 2
    assert set.union(*splits.values()) == set(Split)


@pytest.mark.parametrize("label", [*CLASSES, *OTHERS])
def test_where_two_packages_have_a_label_its_test_packages_give_it_nothing_else(label: str) -> None:
    splits = splits_of(label)
    mixed = [name for name, own in splits.items() if Split.TEST in own and own != {Split.TEST}]
    assert len(splits) < 2 or mixed == []


@pytest.mark.parametrize("label", OTHERS)
def test_every_kind_of_what_is_no_class_has_clips_to_be_tested_with(label: str) -> None:
    assert Split.TEST in set.union(*splits_of(label).values())


def test_places_and_members_are_named_once_and_lie_below_their_label() -> None:
    for package in MANIFEST:
        assert len({clip.path for clip in package.clips}) == len({clip.member for clip in package.clips}) == len(package.clips)
        assert [clip.path for clip in package.clips if PurePosixPath(clip.path).parts[0] != clip.label] == []


def test_every_package_states_licence_and_origin_and_stays_below_2_gb_together() -> None:
    assert all(package.licence and package.origin and len(package.sha256) == 64 for package in MANIFEST)
    assert sum(package.size for package in MANIFEST) < 2e9
    assert all(0 < clip.size < 16e6 and (clip.seconds > 0 or clip.modality is Modality.FRAMES) for _, clip in PAIRS)


def test_the_table_is_that_of_the_manifest() -> None:
    assert recordings.TABLE.read_text("utf-8") == recordings.report()


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "gunshot/../../outside", "file"])
def test_a_place_outside_the_cache_is_refused(path: str) -> None:
    with pytest.raises(PackageError, match="must be relative"):
        a_clip(path=path)


@pytest.mark.parametrize("member", ["/etc/passwd", "usr/../../etc/passwd", "usr/pack.zip!../evil"])
def test_a_member_outside_its_package_is_refused(member: str) -> None:
    with pytest.raises(PackageError, match="leaves its package"):
        a_clip(member)


def test_an_unknown_label_or_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="'gunshots' is none of"):
        dataclasses.replace(a_clip(), label="gunshots")
    path = tmp_path / "recordings.toml"
    path.write_text('[[package]]\nkind = "debian"\nname = "x"\n')
    with pytest.raises(PackageError, match=r"recordings\.toml is wrong"):
        recordings.manifest(path)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("data.tar", bytes), ("data.tar.gz", gzip.compress), ("data.tar.xz", lzma.compress), ("data.tar.zst", cramjam.zstd.compress)],
)
def test_only_the_named_member_lands_however_the_package_is_packed(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    data = a_tar([("./usr/bin/game", b"#!/bin/sh\nexit 1"), ("../evil", b"evil"), ("./" + MEMBER, SOUND), ("/etc/evil", b"evil")])
    deb = a_deb(tmp_path, bytes(pack(data)), name)
    assert extract(deb, tmp_path / "target", a_clip()) == ["gunshot/bang.ogg"]
    assert (tmp_path / "target/gunshot/bang.ogg").read_bytes() == SOUND
    assert landed(tmp_path) == [deb.name, "target/gunshot/bang.ogg"]


def test_members_of_a_zip_inside_the_package_are_found(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        for title in ("a.ogg", "b.ogg", "../c.ogg"):
            archive.writestr(f"sound/{title}", SOUND)
    clips = [a_clip(f"usr/pack.pk3!sound/{title}", path=f"gunshot/{title}") for title in ("a.ogg", "b.ogg")]
    deb = a_deb(tmp_path, packed([("./usr/pack.pk3", inner.getvalue())]))
    assert extract(deb, tmp_path / "target", *clips) == ["gunshot/a.ogg", "gunshot/b.ogg"]


@pytest.mark.parametrize("content", [SOUND[:-1], SOUND[:-1] + b"X", SOUND + b"X"])
def test_a_member_with_another_digest_is_dropped(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PackageError, match="differs from the manifest"):
        extract(a_deb(tmp_path, packed([(MEMBER, content)])), tmp_path / "target", a_clip())
    assert landed(tmp_path / "target") == []


def test_a_bomb_is_read_one_byte_past_its_announced_size_and_dropped(tmp_path: Path) -> None:
    stream = io.BytesIO(bytes(5_000_000))
    assert sum(map(len, packages.bounded(stream, len(SOUND)))) == len(SOUND) + 1
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bang.ogg", bytes(5_000_000))
    data = packed([(MEMBER, bytes(5_000_000)), ("usr/pack.pk3", inner.getvalue())])
    for clip in (a_clip(), a_clip("usr/pack.pk3!bang.ogg")):
        with pytest.raises(PackageError, match="differs from the manifest"):
            extract(a_deb(tmp_path, data), tmp_path / "target", clip)
    assert landed(tmp_path / "target") == []


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SOUND)
    with pytest.raises(PackageError, match="a link or no file"):
        extract(a_deb(tmp_path, packed([(MEMBER, str(tmp_path / "secret"))])), tmp_path / "target", a_clip())
    assert landed(tmp_path / "target") == []


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"!<arch>\n", b"!<arch>\n" + b"data.tar.xz".ljust(48) + b"many      `\n", b"!<arch>\n" + b"x" * 100]
)
def test_what_is_no_debian_package_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "game.deb"
    path.write_bytes(content)
    with pytest.raises(PackageError, match="not a Debian package"):
        extract(path, tmp_path / "target", a_clip())


@pytest.mark.parametrize(
    ("name", "data"), [("data.tar.xz", b"junk"), ("data.tar.zst", b"junk"), ("data.tar.xz", packed([(MEMBER, SOUND)])[:-40])]
)
def test_a_broken_package_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(PackageError, match=r"game_1\.0-1_all\.deb"):
        extract(a_deb(tmp_path, data, name), tmp_path / "target", a_clip(), a_clip("usr/share/last.ogg"))


def test_an_absent_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"no usable member usr/share/game/bang\.ogg"):
        extract(a_deb(tmp_path, packed([("usr/other", b"")])), tmp_path / "target", a_clip())


def a_system(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A machine whose apt-get is this script."""
    apt = folder / "bin/apt-get"
    apt.parent.mkdir()
    apt.write_text(f"#!/bin/sh\n{script}\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:/usr/bin:/bin")


def test_pull_takes_the_named_version_by_apt_and_fetches_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = a_deb(tmp_path, packed([("./" + MEMBER, SOUND)]))
    a_system(monkeypatch, tmp_path, f'echo "$@" >> {tmp_path}/asked; cp {deb} .')
    package = a_package(a_clip(), sha256=hashlib.sha256(deb.read_bytes()).hexdigest())
    home = tmp_path / "home"
    with packages.bar() as progress:
        assert recordings.pull(home, packages=[package], progress=progress) == [package]
        assert all(task.finished for task in progress.tasks)
    assert recordings.pull(home, packages=[package]) == []
    assert (tmp_path / "asked").read_text() == "--quiet download game=1.0-1\n"
    assert landed(home) == ["recordings/game/1.0-1/gunshot/bang.ogg"]
    (row,) = recordings.locate(home, label="gunshot", split=Split.TRAIN, modality=Modality.AUDIO, packages=[package])
    assert (row.path.read_bytes(), row.state) == (SOUND, State.OK)


def test_a_package_with_another_digest_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = a_deb(tmp_path, packed([("./" + MEMBER, SOUND)]))
    a_system(monkeypatch, tmp_path, f"cp {deb} .")
    with pytest.raises(PackageError, match="digest is not the manifest's"):
        recordings.pull(tmp_path / "home", packages=[a_package(a_clip())])
    assert landed(tmp_path / "home") == []


def test_where_apt_knows_no_such_version_the_mending_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_system(monkeypatch, tmp_path, "echo 'E: Version 1.0-1 for game was not found' >&2; exit 100")
    with pytest.raises(PackageError, match=r"run `apt-get update`, then `streamer recordings pull` again(.|\n)*was not found"):
        recordings.pull(tmp_path / "home", packages=[a_package(a_clip())])


def test_where_there_is_no_apt_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="apt-get is not here"):
        recordings.pull(tmp_path / "home", packages=[a_package(a_clip())])


def test_missing_and_altered_files_are_named_with_the_command_that_mends_them(tmp_path: Path) -> None:
    package = a_package(a_clip())
    with pytest.raises(PackageError, match=r"streamer recordings pull(.|\n)*bang\.ogg: missing"):
        recordings.verify(tmp_path, [package])
    path = package.folder(tmp_path) / "gunshot/bang.ogg"
    path.parent.mkdir(parents=True)
    path.write_bytes(SOUND[:-1] + b"X")
    with pytest.raises(PackageError, match=r"bang\.ogg: altered"):
        recordings.locate(tmp_path, label="gunshot", packages=[package])
    with pytest.raises(PackageError, match="label=siren"):
        recordings.locate(tmp_path, label="siren", packages=[package])

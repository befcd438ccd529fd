"""OpenClonk's group files: members are found at any depth, and nothing that a damaged or hostile one says is believed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import groups, packages
from models.groups import Group, GroupError
from models.packages import PackageError
from models.recordings import Clip, Modality, Split
from tests.models.test_recordings import a_deb, extract, packed

OUTER = "usr/share/games/openclonk/Sound.ocg"
BREAK, SPLASH = b"OggS glass breaks " * 500, b"OggS water"
MOST = 1 << 20
ID = b"RedWolf Design GrpFolder"

Tree = Mapping[str, "bytes | Tree"]
Row = tuple[bytes, int, int, int]  # name, whether a child group, size, offset


def scrambled(header: bytes) -> bytes:
    swapped = (header[at : at + 3][::-1] for at in range(0, len(header), 3))
    return bytes(byte ^ 237 for three in swapped for byte in three)


def a_table(rows: list[Row], count: int | None = None, name: bytes = ID) -> bytes:
    """A header that announces `count` entries, the true number where it is None, and the entries."""
    header = name.ljust(28, b"\0") + struct.pack("<3i", 1, 2, len(rows) if count is None else count)
    entries = (name.ljust(260, b"\0") + struct.pack("<5i", 0, child, size, 0, offset) for name, child, size, offset in rows)
    return scrambled(header.ljust(204, b"\0")) + b"".join(entry.ljust(316, b"\0") for entry in entries)


def a_group(tree: Tree) -> bytes:
    rows: list[Row] = []
    data = b""
    for name, content in tree.items():
        own = content if isinstance(content, bytes) else a_group(content)
        rows.append((name.encode("latin-1"), int(not isinstance(content, bytes)), len(own), len(data)))
        data += own
    return a_table(rows) + data


def as_file(group: bytes) -> bytes:
    return groups.MAGIC + gzip.compress(group, mtime=0)[2:]  # the same at every import: workers of a parallel run compare tests by name


def load(content: bytes, most: int = MOST) -> Group:
    return Group.load(io.BytesIO(content), most)


def a_clip(inner: str, content: bytes) -> Clip:
    return Clip(
        path=f"glass_break/{inner.rpartition('/')[2]}",
        member=f"{OUTER}!{inner}",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        label="glass_break",
        modality=Modality.AUDIO,
        recording=inner,
        split=Split.TRAIN,
        seconds=1,
    )


def a_chain(groups_in_all: int) -> tuple[str, bytes]:
    """A file inside so many groups: its path, and the outermost group."""
    tree: Tree = {"deep.ogg": BREAK}
    for _ in range(groups_in_all - 1):
        tree = {"G.ocg": tree}
    return "G.ocg/" * (groups_in_all - 1) + "deep.ogg", a_group(tree)


SOUNDS = a_group({"Splash.ogg": SPLASH, "Hits.ocg": {"Gl\xe4s.ocg": {"Empty.ogg": b"", "GlassBreak.ogg": BREAK}, "Author.txt": b"me"}})
GLASS = "Hits.ocg/Gl\xe4s.ocg/GlassBreak.ogg"


@pytest.mark.parametrize(
    ("inner", "content"),
    [("Splash.ogg", SPLASH), ("Hits.ocg/Author.txt", b"me"), (GLASS, BREAK), ("Hits.ocg/Gl\xe4s.ocg/Empty.ogg", b"")],
)
def test_a_member_is_found_in_the_group_and_in_its_children(inner: str, content: bytes) -> None:
    assert load(as_file(SOUNDS)).read(inner, MOST) == content


def test_a_member_is_copied_no_further_than_asked() -> None:
    assert load(as_file(SOUNDS)).read(GLASS, 5) == BREAK[:5]


def test_of_equal_names_the_first_is_meant() -> None:
    assert Group(a_table([(b"a", 0, 1, 0), (b"a", 0, 1, 1)]) + b"12").read("a", 1) == b"1"


@pytest.mark.parametrize(
    "inner", ["", "Splash", "splash.ogg", "Hits.ocg", "Splash.ogg/Splash.ogg", "/Splash.ogg", "Hits.ocg/../Splash.ogg"]
)
def test_what_is_no_member_is_a_key_error(inner: str) -> None:
    with pytest.raises(KeyError, match="no item named"):
        load(as_file(SOUNDS)).read(inner, MOST)


def test_eight_groups_may_be_one_inside_another_and_nine_may_not() -> None:
    inner, group = a_chain(groups.DEEPEST)
    assert Group(group).read(inner, MOST) == BREAK
    inner, group = a_chain(groups.DEEPEST + 1)
    with pytest.raises(GroupError, match="9 groups, more than 8"):
        Group(group).read(inner, MOST)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (b"", "no header"),
        (SOUNDS[:203], "no header"),
        (a_table([], name=b"RedWolf"), "not that of a group"),
        (a_table([], count=-1), "-1 entries"),
        (a_table([], count=1), "cannot have a table of 520"),
        (a_table([], count=2**31 - 1) + bytes(1_000), "cannot have a table"),
        (a_table([(b"a", 0, -1, 0)]), "-1 bytes at 0 of 0"),
        (a_table([(b"a", 0, 1, -1)]) + b"x", "1 bytes at -1 of 1"),
        (a_table([(b"a", 0, 2, 0)]) + b"x", "2 bytes at 0 of 1"),
        (a_table([(b"a", 0, 1, 1)]) + b"x", "1 bytes at 1 of 1"),
        (a_table([(b"a", 0, 2**31 - 1, 2**31 - 1)]) + b"x", "of 1"),
    ],
)
def test_a_count_a_size_or_an_offset_that_lies_is_refused(group: bytes, message: str) -> None:
    with pytest.raises(GroupError, match=message):
        load(as_file(group))


def test_a_child_cannot_reach_beyond_itself() -> None:
    child = a_table([(b"a", 0, 6, 0)]) + b"own"
    group = Group(a_table([(b"c", 1, len(child), 0)]) + child + b"not")
    with pytest.raises(GroupError, match="6 bytes at 0 of 3"):
        group.read("c/a", MOST)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(groups.MAGIC, id="magic alone"),
        pytest.param(gzip.compress(SOUNDS, mtime=0), id="gzip"),
        pytest.param(b"PK\x03\x04", id="zip"),
        pytest.param(as_file(SOUNDS)[:-1], id="a byte short"),
        pytest.param(as_file(SOUNDS)[:99], id="its beginning"),
    ],
)
def test_what_is_no_whole_group_file_is_refused(content: bytes) -> None:
    with pytest.raises(GroupError, match=r"not a group file|ends early"):
        load(content)


def test_an_altered_group_file_is_refused() -> None:
    content = bytearray(as_file(SOUNDS))
    content[-8] ^= 1  # of the checksum
    with pytest.raises(GroupError, match="damaged"):
        load(bytes(content))


def test_a_group_is_unpacked_to_its_bound_and_not_a_byte_further() -> None:
    assert load(as_file(SOUNDS), len(SOUNDS)).read(GLASS, MOST) == BREAK
    with pytest.raises(GroupError, match=f"more than {len(SOUNDS) - 1} bytes"):
        load(as_file(SOUNDS), len(SOUNDS) - 1)


@given(
    st.binary(max_size=300).map(groups.MAGIC.__add__)
    | st.binary(max_size=300).map(as_file)
    | st.builds(
        lambda count, rows, rest: as_file(a_table(rows, count) + rest),
        st.none() | st.integers(-2, 4),
        st.lists(st.tuples(st.just(b"a"), st.integers(0, 1), st.integers(-9, 700), st.integers(-9, 700)), max_size=3),
        st.binary(max_size=9) | st.just(SOUNDS),
    )
)
def test_whatever_follows_the_magic_only_the_errors_of_the_module_come_of_it(content: bytes) -> None:
    for inner in ("a", "a/Splash.ogg"):
        with contextlib.suppress(GroupError, KeyError):
            assert len(load(content).read(inner, 5)) <= 5


def test_members_of_a_group_inside_a_package_land(tmp_path: Path) -> None:
    deb = a_deb(tmp_path, packed([("./" + OUTER, as_file(SOUNDS))]))
    clips = [a_clip(GLASS, BREAK), a_clip("Splash.ogg", SPLASH)]
    assert extract(deb, tmp_path / "target", *clips) == ["glass_break/GlassBreak.ogg", "glass_break/Splash.ogg"]
    assert (tmp_path / "target/glass_break/GlassBreak.ogg").read_bytes() == BREAK


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(as_file(a_group({"Hits.ocg": {}})), "no item named", id="a member lacks"),
        pytest.param(as_file(SOUNDS)[:-1], "ends early", id="a byte short"),
        pytest.param(as_file(a_table([], count=9)), "cannot have a table", id="a table of nothing"),
        pytest.param(as_file(SOUNDS.replace(BREAK, BREAK[::-1])), "differs from the manifest", id="other content"),
        pytest.param(
            as_file(a_group({"Hits.ocg": {"Gl\xe4s.ocg": {"GlassBreak.ogg": BREAK + b"x"}}})), "differs from the manifest", id="longer"
        ),
    ],
)
def test_a_package_whose_group_is_not_as_announced_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        extract(a_deb(tmp_path, packed([(OUTER, content)])), tmp_path / "target", a_clip(GLASS, BREAK))
    assert list((tmp_path / "target").iterdir()) == []


def test_a_bomb_inside_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_MOST_NESTED", MOST)
    bomb = as_file(a_table([(b"a", 0, 1, 0)]) + bytes(50 * MOST))
    assert len(bomb) < MOST
    with pytest.raises(PackageError, match=f"unpacks to more than {MOST} bytes"):
        extract(a_deb(tmp_path, packed([(OUTER, bomb)])), tmp_path / "target", a_clip("a", b"\0"))

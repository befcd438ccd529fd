"""Files in OpenClonk's group files (`*.ocg`, `*.ocd`, ...): one gzip stream of tables and data, a group within a group.

The format is that of OpenClonk's source: src/c4group/CStdFile.cpp (the stream, whose two magic bytes are altered) and C4Group.h,
C4Group.cpp (`MemScramble`, `C4GroupHeader`, `C4GroupEntryCore`). A group is a scrambled header, a table of entries, and data; an
entry's offset counts from the table's end. A child group is an entry whose data is again a group, not packed a second time.

Laws:
1. Nothing is unpacked past the bound that the caller gives, whatever the stream holds; a member is copied no further than asked.
2. A count, a size or an offset is believed only when what it names lies within its own group: a group inside cannot reach outside.
3. A path leads through at most DEEPEST groups, the outermost one included.
4. A damaged group is refused when it is opened (a child: when a path first leads through it), not when a damaged entry is wanted. Of
   equal names the first is meant, as in the game.
5. Whatever the bytes are, only GroupError comes of them; a member that is not there is a KeyError, as in `zipfile`.

* GroupError - no group, damaged, or larger or deeper than allowed: never read it again
"""

from __future__ import annotations

import struct
import zlib
from typing import IO, Self

MAGIC = b"\x1e\x8c"
"""The first two bytes of a group file."""
DEEPEST = 8
"""Groups that a path may lead through."""
_GZIP = b"\x1f\x8b"  # what MAGIC stands for
_GZIP_BITS = 31  # zlib's wbits for a gzip stream with its header and checksum
_BLOCK = 1 << 20  # packed bytes read at a time
_KEY = 237  # each byte of a header is XORed with it
_ID = b"RedWolf Design GrpFolder"
_HEADER = struct.Struct("<28s8xi164x")  # id, two versions, number of entries
_ENTRY = struct.Struct("<260siii4xi36x")  # name, packed (never used), whether a child group, size, offset


class GroupError(Exception):
    """No group, a damaged one, or one that is larger or deeper than allowed. The message says which."""


class Group:
    """A group, unpacked once for many members. `data`: its bytes without the gzip stream around them. Raises GroupError."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._entries: dict[str, tuple[bool, memoryview]] = {}
        self._children: dict[str, Group] = {}
        view = memoryview(data)
        start = _HEADER.size + _ENTRY.size * _count(view)
        if start > len(view):
            raise GroupError(f"a group of {len(view)} bytes cannot have a table of {start}")
        rest = view[start:]
        for raw, _, child, size, offset in _ENTRY.iter_unpack(view[_HEADER.size : start]):
            name = raw.partition(b"\0")[0].decode("latin-1")
            if size < 0 or offset < 0 or offset + size > len(rest):
                raise GroupError(f"{name!r} has {size} bytes at {offset} of {len(rest)}")
            self._entries.setdefault(name, (child != 0, rest[offset : offset + size]))

    @classmethod
    def load(cls, stream: IO[bytes], most: int) -> Self:
        """The group file that `stream` holds, if it unpacks to at most `most` bytes. Raises GroupError."""
        return cls(_unpacked(stream, most))

    def read(self, inner: str, most: int) -> bytes:
        """The member `Child.ocg/file.ogg`, at most `most` bytes of it. Raises KeyError where there is none, else GroupError."""
        *folders, name = inner.split("/")
        if len(folders) >= DEEPEST:
            raise GroupError(f"{inner!r} leads through {len(folders) + 1} groups, more than {DEEPEST}")
        group = self
        for folder in folders:
            group = group._child(folder, inner)
        return bytes(group._entry(name, inner, child=False)[:most])

    def _child(self, name: str, inner: str) -> Group:
        if name not in self._children:
            self._children[name] = Group(self._entry(name, inner, child=True))
        return self._children[name]

    def _entry(self, name: str, inner: str, *, child: bool) -> memoryview:
        is_child, data = self._entries.get(name, (None, memoryview(b"")))
        if is_child is not child:
            raise KeyError(f"There is no item named {inner!r} in the group")
        return data


def _count(view: memoryview) -> int:
    """How many entries the header announces."""
    if len(view) < _HEADER.size:
        raise GroupError(f"a group of {len(view)} bytes has no header")
    name, count = _HEADER.unpack(_unscrambled(view[: _HEADER.size]))
    if name.partition(b"\0")[0] != _ID:
        raise GroupError("the header is not that of a group")
    if count < 0:
        raise GroupError(f"the header announces {count} entries")
    return int(count)


def _unscrambled(header: memoryview) -> bytes:
    plain = bytearray(byte ^ _KEY for byte in header)
    plain[0::3], plain[2::3] = plain[2::3], plain[0::3]
    return bytes(plain)


def _unpacked(stream: IO[bytes], most: int) -> bytearray:
    if stream.read(len(MAGIC)) != MAGIC:
        raise GroupError("not a group file: its first bytes are others")
    engine, plain, block = zlib.decompressobj(_GZIP_BITS), bytearray(), _GZIP
    try:
        while block and not engine.eof:
            plain += engine.decompress(block, most + 1 - len(plain))
            if len(plain) > most:
                raise GroupError(f"the group unpacks to more than {most} bytes")
            block = stream.read(_BLOCK)
    except zlib.error as exc:
        raise GroupError(f"the group is damaged: {exc}") from exc
    if not engine.eof:
        raise GroupError("the group file ends early")
    return plain

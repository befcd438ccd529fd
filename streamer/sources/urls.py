"""Urls with logins: put one in, and keep it out of sight. Nothing here raises, whatever a user wrote."""

from __future__ import annotations

import re
from urllib.parse import quote

# `=` also as a url quotes it; a value ends where the next key begins (some cameras put `_` between their keys)
_SECRET = re.compile(r"([a-z]*(?:user|usr|login|pass|pwd|token|key|secret|auth)[a-z]*(?:=|%3d)).*?(?=[&/;,]|%26|_[a-z]+=|$)", re.IGNORECASE)
_HIDDEN = "***"
_MASKED = rf"\g<1>{_HIDDEN}"


def scheme(url: str) -> str:
    """`rtsp` of `RTSP://host/a`; empty for a path."""
    name, separator, _ = url.partition("://")
    return name.lower() if separator else ""


def host(url: str) -> str:
    """The host of a url with `://`, without login and port; empty where there is none."""
    place = _authority(url).rpartition("@")[2]
    return place.partition("]")[0].removeprefix("[") if place.startswith("[") else place.partition(":")[0]


def with_login(url: str, username: str | None, password: str | None) -> str:
    """The url as FFmpeg wants it (its schemes are lower case), with the login of the settings, if they have one."""
    rest = url.partition("://")[2]
    if username:
        place = _authority(url)
        login = f"{quote(username, safe='')}:{quote(password or '', safe='')}@"
        rest = login + place.rpartition("@")[2] + rest[len(place) :]
    return f"{scheme(url)}://{rest}"


def redact(url: str) -> str:
    """Scheme, host, port and path, with the values of telling keys hidden: nothing in which a login can stand. Paths of files stay."""
    if "://" not in url:
        return url
    place = _authority(url)
    rest = url.partition("://")[2][len(place) :]
    if "@" in rest and "@" not in place and not rest.startswith("/"):
        return f"{scheme(url)}://{_HIDDEN}"  # a password with ? or # in it, never quoted
    path = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in path:  # a password with / in it, never quoted
        place, path = "", path.rpartition("@")[2]
    return f"{scheme(url)}://{place.rpartition('@')[2]}{_SECRET.sub(_MASKED, path)}"


def _authority(url: str) -> str:
    """What stands between `://` and the path."""
    return re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]

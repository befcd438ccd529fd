"""Urls with logins: put one in, and keep it out of sight."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit


def with_login(url: str, username: str | None, password: str | None) -> str:
    """The url with the login of the settings, if they have one."""
    if not username:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(username, safe='')}:{quote(password or '', safe='')}@{host}"))


def redact(url: str) -> str:
    """Scheme, host, port and path: nothing in which a login can stand. Paths of files stay as they are."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

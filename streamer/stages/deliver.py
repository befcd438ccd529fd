"""Deliver, the rules: what was sent already, what an answer means, how long to wait. No clock, no I/O.

Laws:
1. Each (id, revision) is sent once, if its repeat stands within `REMEMBERED` alerts of its partition; what was sent before a restart is
   known from the log before the committed offset.
2. 2xx is yes. 408, 425, 429, 5xx and no answer at all mean later: the receiver cannot take it now. So do redirects, 401, 403
   and 404: the address or the secret is wrong, which an operator mends, and no alert may be lost until then. Everything else
   means never: the receiver will not take this alert; 410 (Standard Webhooks): nor any other.
3. "Later" is tried again for ever, never faster than the receiver asks (Retry-After), never slower than `LONGEST_WAIT`; what
   an operator must mend, no faster than that.
"""

from __future__ import annotations

from collections import OrderedDict
from email.utils import parsedate_to_datetime
from enum import StrEnum

from streamer.events import SECOND, Alert, Micros

REMEMBERED = 10_000
"""Alerts of one partition that are read back, and remembered, to tell duplicates. Killed before its checkpoint, decide writes again what it
wrote since the last one, half a second before: of a backlog that may be some thousand scores, each with an alert of every rule."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second attempt, and the most there ever is between two."""

_LATER = frozenset({408, 425, 429})
_OURS = frozenset({401, 403, 404})


class Outcome(StrEnum):
    """What became of an alert at a sink: the metric's label."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    BROKEN = "broken"


class Answer(StrEnum):
    """What a receiver's status means."""

    YES = "yes"
    LATER = "later"
    NEVER = "never"


def answer(status: int) -> Answer:
    """The meaning of an HTTP status (law 2)."""
    if 200 <= status < 300:
        return Answer.YES
    return Answer.LATER if status in _LATER or status >= 500 or _misdirected(status) else Answer.NEVER


def wait_for(status: int, header: str | None, now: Micros) -> float | None:
    """Seconds until a "later" is tried again (law 3), `header` being its Retry-After; None: as the back-off has it."""
    return LONGEST_WAIT if _misdirected(status) else retry_after(header, now)


def retry_after(value: str | None, now: Micros) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date), at most `LONGEST_WAIT`; None where it says nothing."""
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(at - now / SECOND, 0.0), LONGEST_WAIT)


def _misdirected(status: int) -> bool:
    """The answer speaks of our address or secret, not of the alert."""
    return status in _OURS or 300 <= status < 400


class Recent:
    """The last (id, revision) pairs of one partition (law 1)."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __contains__(self, alert: Alert) -> bool:
        return (alert.id, alert.revision) in self._seen

    def add(self, alert: Alert) -> None:
        """Remember an alert as sent; the oldest is forgotten."""
        self._seen[alert.id, alert.revision] = None
        self._seen.move_to_end((alert.id, alert.revision))
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)

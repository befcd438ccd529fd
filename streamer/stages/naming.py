"""Which episode is which sent alert (decide's law 4): first by what is frozen, then by the start it was announced with, then by overlap.

Of several alerts the oldest is first. What is frozen may not be retracted (law 6), so whoever was told of it goes before all others.

An episode takes one alert and an alert one episode; the others are new, or to be retracted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from streamer.events import AlertState, Micros
from streamer.stages.episodes import Episode
from streamer.stages.memory import Sent

Within = Callable[[Episode, Sent], bool]


def match(episodes: Sequence[Episode], sent: Iterable[Sent], carry: Episode | None) -> list[tuple[Episode, Sent | None]]:
    """Each episode with its alert, if it has one. `carry`: what is frozen of the one that may still go on."""
    free, owner = list(sent), dict[int, Sent]()

    def is_frozen(episode: Episode, alert: Sent) -> bool:
        if carry is None or alert.state is AlertState.RETRACTED:
            return False
        return overlaps(carry, alert) and episode.start <= carry.start <= episode.last

    for within in (is_frozen, has_anchor, overlaps):
        for alert in list(free):
            for place, episode in enumerate(episodes):
                if place not in owner and within(episode, alert):
                    owner[place] = alert
                    free.remove(alert)
                    break
    return [(episode, owner.get(place)) for place, episode in enumerate(episodes)]


def concerned(
    first: Iterable[Episode], alerts: Sequence[Sent], between: Callable[[Micros, Micros], Sequence[Episode]]
) -> tuple[list[Episode], list[Sent]]:
    """The episodes and alerts that a match of the `first` episodes could tell apart from: all that hang together with them.

    So that matching these alone is matching all. `between` finds episodes by a stretch.
    """
    episodes = {episode.start: episode for episode in first}
    new, chosen = list(episodes.values()), dict[int, Sent]()
    while new:
        touched = [alert for alert in alerts if id(alert) not in chosen and any(_touches(episode, alert) for episode in new)]
        chosen |= {id(alert): alert for alert in touched}
        near = [e for alert in touched for e in (*between(alert.anchor, alert.anchor), *between(alert.start, alert.last))]
        new = [episode for episode in near if episode.start not in episodes]
        episodes |= {episode.start: episode for episode in new}
    return [episodes[start] for start in sorted(episodes)], [alert for alert in alerts if id(alert) in chosen]


def has_anchor(episode: Episode, sent: Sent) -> bool:
    """The episode holds the start that the alert was announced with."""
    return episode.start <= sent.anchor <= episode.last


def overlaps(episode: Episode, sent: Sent) -> bool:
    """The episode has windows in the stretch where the alert's was last."""
    return episode.start <= sent.last and sent.start <= episode.last


def _touches(episode: Episode, sent: Sent) -> bool:
    return has_anchor(episode, sent) or overlaps(episode, sent)

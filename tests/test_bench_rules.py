"""The bench of rules in small: what decide makes of probabilities that are given."""

from __future__ import annotations

import numpy as np

from models.classes import LABELS
from models.evaluation.alarms import Timeline
from models.fusion.windows import MODALITIES
from streamer.rules import Rule, parse_rules
from tests.bench.rules import Watched

SIREN = LABELS.index("siren")


def watched(values: str, truth: str, *, sessions: str | None = None) -> Watched:
    """One letter a second: the probability of a siren in tenths; `x` where there is one; which session."""
    probability_BC, truth_BC = np.zeros((len(values), len(LABELS))), np.zeros((len(values), len(LABELS)), np.bool_)
    probability_BC[:, SIREN] = [int(one) / 10 for one in values]
    truth_BC[:, SIREN] = [one == "x" for one in truth]
    session_B = np.array([int(one) for one in sessions or "0" * len(values)])
    timeline = Timeline(session_B=session_B, hop_B=np.arange(len(values)), hop_s=1.0)
    present_BM = np.ones((len(values), len(MODALITIES)), np.bool_)
    present_BM[:, 0] = [second % 2 == 0 for second in range(len(values))]  # every other window has no pictures
    return Watched(probability_BC=probability_BC, truth_BC=truth_BC, present_BM=present_BM, timeline=timeline)


def rule(**more: object) -> Rule:
    return parse_rules({"rules": [{"id": "siren", "class": "siren", "threshold": 0.5, "duration": 0, "cooldown": 0} | more]}).rules[0]


def counted(values: str, truth: str, *, sessions: str | None = None, **more: object) -> tuple[int, int, int]:
    found = watched(values, truth, sessions=sessions).count(rule(**more))
    return found["found"], found["events"], found["false"]


def test_an_event_is_found_by_an_alert_within_two_windows_and_what_is_near_none_is_false() -> None:
    assert counted("0009000000000900000", "..xx......x........") == (1, 2, 1)
    assert counted("0009000000009000000", "..xx......x........") == (2, 2, 0)


def test_duration_counts_and_one_alert_may_find_two_events() -> None:
    assert counted("9099999000000000000", "x....x.............", duration="2s") == (2, 2, 0)
    assert counted("0900000090000000000", ".x.................", duration="2s") == (0, 1, 0)


def test_a_cooldown_hides_false_alarms_and_no_event() -> None:
    values, truth = "9000009000009000000", "......x............"
    assert counted(values, truth) == (1, 1, 2) and counted(values, truth, cooldown="30s") == (1, 1, 1)


def test_what_a_rule_needs_decides_which_windows_count() -> None:
    assert counted("0900000000000", ".x...........", needs=["audio"]) == (1, 1, 0)
    assert counted("0900000000000", ".x...........", needs=["frames"]) == (0, 1, 0)
    assert counted("0090000000000", "..x..........", needs=["frames"]) == (1, 1, 0)


def test_sessions_do_not_see_each_other() -> None:
    assert counted("0000000000090000000", ".......x...........", sessions="0000000000111111111") == (0, 1, 1)
    assert counted("0000000009900000000", ".........xx........", sessions="0000000000111111111") == (2, 2, 0)

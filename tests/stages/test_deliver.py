"""Laws of stages/deliver.py that no sink is needed for."""

from __future__ import annotations

from collections import Counter

from streamer.kafka.merge import AT_ONCE
from streamer.stages.deliver import REMEMBERED, Recent
from tests.builders import an_alert


def test_what_decide_writes_again_after_a_crash_in_a_backlog_is_known_as_sent() -> None:
    """Law 1: a whole batch of scores, each with an alert of several rules, whose checkpoint was not written."""
    rules = REMEMBERED // AT_ONCE
    assert rules >= 10
    alerts = [an_alert(second, rule=f"rule-{n}") for second in range(AT_ONCE) for n in range(rules)]
    recent, sent = Recent(), Counter[tuple[str, int]]()
    for alert in [*alerts, *alerts]:
        if alert not in recent:
            sent[alert.id, alert.revision] += 1
            recent.add(alert)
    assert len(sent) == len(alerts) and set(sent.values()) == {1}

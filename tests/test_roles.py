"""How a role's end becomes an exit code."""

from __future__ import annotations

import pytest

from streamer.errors import ConfigError, Transient
from streamer.roles import FAILED, MISCONFIGURED, told

WRONG, AWAY, BUG = ConfigError("port 9460"), Transient("broker away"), KeyError("bug")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WRONG, MISCONFIGURED),
        (AWAY, FAILED),
        (BUG, FAILED),
        (ExceptionGroup("sinks", [AWAY, WRONG]), MISCONFIGURED),
        (ExceptionGroup("sinks", [AWAY, ExceptionGroup("more", [WRONG])]), MISCONFIGURED),
        (ExceptionGroup("sinks", [AWAY, BUG]), FAILED),
    ],
)
def test_a_wrong_configuration_is_told_as_one_also_from_inside_a_task_group(error: Exception, code: int) -> None:
    assert told(error) == code

"""How a role's end becomes an exit code."""

from __future__ import annotations

import pytest

from streamer.config import Config, HealthSettings, TranscribeSettings
from streamer.errors import ConfigError, Transient
from streamer.roles import FAILED, MISCONFIGURED, OK, run_role, told
from streamer.runtime import Runtime

WRONG, AWAY, BUG = ConfigError("port 9460"), Transient("broker away"), KeyError("bug")


async def nothing(runtime: Runtime) -> None:
    """A role that is done at once."""


@pytest.mark.parametrize(("role", "given"), [("transcribe", [7]), ("infer", [])])
def test_transcribe_gives_way_to_the_other_roles_of_its_machine(role: str, given: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    monkeypatch.setattr("streamer.roles.entry_point", lambda role: nothing)
    config = Config(transcribe=TranscribeSettings(nice=7), health=HealthSettings(port=0))
    assert run_role(role, config, {}) == OK and asked == given


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

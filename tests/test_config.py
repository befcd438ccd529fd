"""The configuration file: what is refused and how it is said, and what its paths count from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import load, read_yaml
from streamer.errors import ConfigError
from streamer.rules import load_rules

LOGIN = "viewer:hunter2"
LONE = f"sessions:\n- id: a\n  sources:\n  - name: c\n    url: rtsp://{LOGIN}"


def written(folder: Path, text: str, name: str = "streamer.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{LONE}: x@192.0.2.1/live\n", "line 5, column 31: mapping values are not allowed here"),
        (f'sessions: [{{id: a, sources: [{{name: c, url: "rtsp://{LOGIN}@192.0.2.1/live}}]}}]\n', "unexpected end of stream"),
        (f"{LONE}@192.0.2.1/live\n   fps: 2\n", "line 6"),
        (f"url: *{LOGIN.replace(':', '-')}\n", "line 1, column 6: found undefined alias"),
        (f"url: !{LOGIN.replace(':', '-')} x\n", "line 1, column 6: could not determine a constructor"),
        (f"url: rtsp://{LOGIN}@h/\n# \x01\n", "special characters"),
        ("when: 2024-13-45\n", "does not exist"),
        ("[" * 20_000, "nested too deep"),
    ],
)
def test_a_typing_mistake_is_named_by_its_place_and_the_text_is_not_shown(text: str, place: str, tmp_path: Path) -> None:
    said = refusal(written(tmp_path, text))
    assert place in said
    assert "hunter2" not in said and "viewer" not in said
    with pytest.raises(ConfigError) as raised:
        load_rules(tmp_path / "streamer.yaml")
    assert place in str(raised.value)
    assert "hunter2" not in str(raised.value)


@given(st.sampled_from("\n:'\"{}[]*&!%@`|>-?,# \t\\"), st.integers(0, len(LONE) - len(LOGIN)))
def test_whatever_is_mistyped_no_login_is_shown(tmp_path_factory: pytest.TempPathFactory, char: str, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "mistyped.yaml"
    path.write_text(f"{LONE[:at]}{char}{LONE[at:]}@192.0.2.1/live\n")
    try:
        load(path)
    except ConfigError as exc:
        assert "hunter2" not in str(exc)


def test_an_error_of_yaml_carries_no_cause_that_holds_the_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read_yaml(written(tmp_path, f"{LONE}: x\n"))
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_a_url_that_became_a_key_is_not_shown(tmp_path: Path) -> None:
    text = f"sessions: [{{id: a, sources: [{{name: c, url:rtsp://{LOGIN}@192.0.2.1/live}}]}}]\n"
    said = refusal(written(tmp_path, text))
    assert "sessions.0.sources.0.url" in said
    assert "hunter2" not in said


def test_two_sources_of_one_name_in_a_session_are_refused_by_name(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, "sessions: [{id: yard, sources: [{name: cam, url: a.mp4}, {name: cam, url: b.mp4}]}]\n"))
    assert "yard" in said and "twice: cam" in said


def test_two_sessions_may_name_their_sources_alike(tmp_path: Path) -> None:
    one = "sources: [{name: cam, url: a.mp4}]"
    assert len(load(written(tmp_path, f"sessions: [{{id: a, {one}}}, {{id: b, {one}}}]\n")).sessions) == 2


def test_live_and_recorded_sources_in_one_session_are_refused_by_name(tmp_path: Path) -> None:
    text = "sessions: [{id: yard, sources: [{name: cam, url: a.mp4}, {name: tape, url: b.mp4, pace: recorded}]}]\n"
    said = refusal(written(tmp_path, text))
    assert all(part in said for part in ("yard", "cam is live", "tape is recorded"))


@pytest.mark.parametrize(
    ("align", "said"),
    [
        ("{hop: 3s}", "hop=3000000 us must be in (0, length=2000000 us]"),
        ("{horizon: 1s}", "horizon=1000000 us is shorter than length=2000000 us"),
        ("{session_end: 4s}", "session_end=4000000 us is shorter than idle=5000000 us"),
    ],
)
def test_times_of_align_that_contradict_each_other_are_refused_with_both(align: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(written(tmp_path, f"align: {align}\n"))


def test_relative_paths_count_from_the_files_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    text = "rules: r.yaml\nhome: h\nkafka: {ca_file: ca.pem}\nsessions: [{id: a, sources: [{name: c, url: 'scene:s.yaml'}]}]\n"
    config = load(written(folder, text))
    assert (config.rules, config.home, config.kafka.ca_file) == (folder / "r.yaml", folder / "h", folder / "ca.pem")
    assert config.sessions[0].sources[0].url == f"scene:{folder / 's.yaml'}"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    config = load(written(tmp_path, "rules: /etc/r.yaml\nhome: /var/h\nkafka: {ca_file: /etc/ca.pem}\n"))
    assert (config.rules, config.home, config.kafka.ca_file) == (Path("/etc/r.yaml"), Path("/var/h"), Path("/etc/ca.pem"))

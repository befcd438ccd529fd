"""Which source a url means, and where its path counts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streamer.config import SourceSettings, load
from streamer.errors import ConfigError
from streamer.sources.file import FileSource
from streamer.sources.open import is_live, open_source
from streamer.sources.rtsp import RtspSource
from streamer.sources.scene import SceneSource
from tests.sources.media import START


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://host/a", RtspSource),
        ("rtsps://host/a", RtspSource),
        ("RTSP://host/a", RtspSource),
        ("scene:a.yaml", SceneSource),
        ("Scene:a.yaml", SceneSource),
        ("a/b.mp4", FileSource),
    ],
)
def test_a_url_says_which_source_it_is(url: str, kind: type) -> None:
    settings = SourceSettings(name="a", url=url)
    assert type(open_source(settings, start=START)) is kind
    assert is_live(settings) == (kind is RtspSource)


@pytest.mark.parametrize("url", ["http://viewer:pw-secret@host/a", "RTMP://viewer:pw-secret@host/a?token=pw-secret", "://pw-secret@"])
def test_a_scheme_that_is_not_ours_is_refused_without_its_login(url: str) -> None:
    with pytest.raises(ConfigError, match="is neither rtsp://, rtsps:// nor scene:PATH nor a file's path") as caught:
        open_source(SourceSettings(name="a", url=url), start=START)
    assert "secret" not in str(caught.value)


def test_an_error_about_a_file_shows_no_login() -> None:
    with pytest.raises(ConfigError) as caught:
        FileSource(SourceSettings(name="a", url="http://viewer:pw-secret@host/a"), start=START).check()
    assert "secret" not in str(caught.value)


def test_relative_paths_count_from_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["m/a.wav", "scene:s/scene.yaml", "rtsp://host/a", "/abs/a.wav"]
    sources = [{"name": f"s{n}", "url": url} for n, url in enumerate(urls)]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"sessions": [{"id": "a", "sources": sources}], "rules": "r.yaml"}))
    monkeypatch.chdir(tmp_path)
    config = load(Path("c.yaml"))
    assert [source.url for source in config.sessions[0].sources] == [f"{tmp_path}/m/a.wav", f"scene:{tmp_path}/s/scene.yaml", *urls[2:]]
    assert config.rules == tmp_path / "r.yaml"
    (tmp_path / "elsewhere").mkdir()
    again = tmp_path / "elsewhere" / "c.yaml"  # as `streamer run` writes it for its children
    again.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load(again) == config

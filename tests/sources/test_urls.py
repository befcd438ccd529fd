"""What of a url is shown, and where a login goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.urls import host, redact, with_login


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:pa%40ss@10.0.0.1:554/a/b?user=x&password=y#z", "rtsp://10.0.0.1:554/a/b"),
        ("rtsp://me:p@ss@host/a", "rtsp://host/a"),
        ("rtsp://me:pa/ss@host/a", "rtsp://host/a"),
        ("rtsp://u:p@ss/word@host/a", "rtsp://host/a"),
        ("rtsp://me:p?ss@host/a", "rtsp://***"),
        ("rtsp://host/a?mail=me@home", "rtsp://host/a"),
        ("rtsp://[fe80::1]:554/a", "rtsp://[fe80::1]:554/a"),
        ("rtsp://me:[pw@host/a", "rtsp://host/a"),
        ("RTSP://viewer:pw@host/a", "rtsp://host/a"),
        ("rtsp://host/user=admin&password=hunter2&channel=1.sdp", "rtsp://host/user=***&password=***&channel=1.sdp"),
        ("rtsp://host/user=admin_password=hun_ter2_channel=1.sdp", "rtsp://host/user=***_password=***_channel=1.sdp"),
        ("rtsp://host/live/token=abc/Auth=def;x=1", "rtsp://host/live/token=***/Auth=***;x=1"),
        ("rtsp://host/pwd%3Dhunter2%26channel=1", "rtsp://host/pwd%3D***%26channel=1"),
        ("rtsp://host/Streaming/Channels/101", "rtsp://host/Streaming/Channels/101"),
        ("films/door.mp4", "films/door.mp4"),
        ("scene:deploy/demo/scene.yaml", "scene:deploy/demo/scene.yaml"),
    ],
)
def test_what_is_shown_of_a_url_holds_no_login(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "found"),
    [("rtsp://me:pw@Cam:554/a", "Cam"), ("rtsp://[fe80::1]:554/a", "fe80::1"), ("rtsp://me:pw@/a", ""), ("rtsp://me:[pw@host/a", "host")],
)
def test_the_host_of_a_url(url: str, found: str) -> None:
    assert host(url) == found


@given(st.text(st.sampled_from("rtsp:/@?#[]&=_%\n\\üpw"), max_size=40))
def test_no_text_makes_a_url_raise(text: str) -> None:
    assert isinstance(redact(text) + redact(f"rtsp://{text}") + host(text) + with_login(text, "me", "pw"), str)


def test_a_login_of_the_settings_is_quoted_into_the_url() -> None:
    assert with_login("RTSP://Host/A", None, None) == "rtsp://Host/A"
    assert with_login("rtsp://old:one@host:554/a", "me", "p@:/ss") == "rtsp://me:p%40%3A%2Fss@host:554/a"

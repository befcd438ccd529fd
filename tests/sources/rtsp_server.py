"""A camera with a microphone: H.264 and L16 over RTSP on 127.0.0.1. Runs under Debian's own Python (GStreamer's bindings).

`rtsp_server.py PORT [USER PASSWORD]` prints "ready" and serves rtsp://127.0.0.1:PORT/camera until it is killed.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=10/1"
    " ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=1"
    " audiotestsrc is-live=true wave=sine ! audio/x-raw,format=S16BE,rate=16000,channels=1 ! rtpL16pay name=pay1 pt=97 )"
)


def main() -> None:
    port, *login = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(launch=LAUNCH, shared=True)
    if login:
        auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*login), token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.new_from_string("viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")
        )
    server.get_mount_points().add_factory("/camera", factory)
    assert server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main()

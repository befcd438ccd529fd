"""Real-time multimodal alerting on Kafka. Start reading at `streamer/topology.py`."""

import os

# OpenCV reads this once, when it is loaded, and several files load it: only here does it come before all of them. It is the
# last line of defence should a picture's header tell us and the decoder different sizes (`stages/media.py`).
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))

__version__ = "0.1.0"

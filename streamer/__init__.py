"""Real-time multimodal alerting on Kafka. Start reading at `streamer/topology.py`."""

__version__ = "0.1.0"

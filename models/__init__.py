"""Encoders, speech, fusion and weights. Knows arrays and tensors; never imports `streamer`."""

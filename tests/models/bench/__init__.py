"""Tests of `models/bench/`."""

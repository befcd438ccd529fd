"""Tests of `models/fusion`."""

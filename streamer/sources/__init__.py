"""Cameras, microphones and files: everything that turns the world into frames and audio chunks."""

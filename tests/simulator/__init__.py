"""The deterministic simulator. START at `world.py`: it plays a `Schedule` (`schedule.py`), `checks.py` judges what came of it.

A seed gives a schedule; a schedule is a list of steps, and any part of that list is a schedule too, so a failing one can be
shrunk (`shrink.py`) to a story in plain words. No wall clock, no thread, no event loop: coroutines are driven by hand.
"""

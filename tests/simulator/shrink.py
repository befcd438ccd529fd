"""A failing schedule, made as small as it can be while it still fails in the same way (delta debugging), and told as a story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.simulator.checks import failures
from tests.simulator.schedule import Schedule
from tests.simulator.steps import Read, Save, Step
from tests.simulator.world import AlignerOf, World, aligning

Fails = Callable[[tuple[Step, ...]], bool]


def verdict(schedule: Schedule, build: AlignerOf = aligning, *, tell: bool = False) -> tuple[list[str], World]:
    """What does not hold, and the world in which it does not. An exception is a failure too."""
    world = World(schedule, tell=tell, build=build)
    try:
        return failures(world.play()), world
    except Exception as exc:
        return [f"a worker cannot go on: {exc!r}"], world


def kind(failure: str) -> str:
    """What sort of failure it is: its words without names and numbers."""
    return " ".join(word for word in failure.split() if word.isalpha())[:40]


def shrink(schedule: Schedule, build: AlignerOf = aligning) -> Schedule:
    """The least schedule that fails as this one does: no step of it can be left out."""
    first = kind(verdict(schedule, build)[0][0])

    def fails(steps: tuple[Step, ...]) -> bool:
        return any(kind(one) == first for one in verdict(replace(schedule, steps=steps), build)[0])

    steps, size = schedule.steps, max(1, len(schedule.steps) // 2)
    while True:
        start, before = 0, len(steps)
        while start < len(steps):
            rest = steps[:start] + steps[start + size :]
            steps, start = (rest, start) if fails(rest) else (steps, start + size)
        if size == 1 and len(steps) == before:
            return replace(schedule, steps=_simpler(steps, fails))
        size = max(1, size // 2)


def _simpler(steps: tuple[Step, ...], fails: Fails) -> tuple[Step, ...]:
    """The same steps without what does not matter in them."""
    for at in range(len(steps)):
        for change in (_sound, _in_order, *(partial(_without, topic) for topic in ("frames", "audio", "transcripts"))):
            simple = (*steps[:at], change(steps[at]), *steps[at + 1 :])
            steps = simple if simple != steps and fails(simple) else steps
    return steps


def _sound(step: Step) -> Step:
    return replace(step, fault=None) if isinstance(step, Read | Save) else step


def _in_order(step: Step) -> Step:
    return replace(step, order=0) if isinstance(step, Read) else step


def _without(topic: str, step: Step) -> Step:
    return replace(step, counts={**step.counts, topic: 0}) if isinstance(step, Read) and topic in step.counts else step


def story(schedule: Schedule, build: AlignerOf = aligning) -> str:
    """What happens, one line a step, and what is wrong in the end."""
    found, world = verdict(schedule, build, tell=True)
    odd = {name: ahead for name, ahead in schedule.ahead.items() if ahead}
    head = [f"seed {schedule.seed}; clocks ahead (us): {odd or 'none'}; {_settings(schedule)}"]
    return "\n".join([*head, *(world.story or ()), *(f"  => {line}" for line in found)])


def _settings(schedule: Schedule) -> str:
    settings = schedule.settings
    names = ("length", "hop", "horizon", "idle", "patience", "skew", "max_events")
    waits = "+".join(settings.wait_for)
    return f"waits for {waits}; " + ", ".join(f"{name} {getattr(settings, name)}" for name in names)

"""What `mutants.py` breaks of alignment: each law of DESIGN, section 2, one at a time, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass

STAGES, AGENTS = "streamer/stages/", "streamer/agents/"
UNITS = tuple(f"tests/stages/test_align{part}.py" for part in ("", "_merge", "_tracks", "_gap", "_stale"))
ALIGNER = (*UNITS, "tests/simulator", "tests/stages/test_align_laws.py")


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in `file`, and becomes `new`: then `rule` is broken, which one of `tests` must tell."""

    rule: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ALIGNER


LAWS = (
    Mutant(
        "law 1",
        "a manifest is in the order of a set",
        STAGES + "align/windows.py",
        "sorted(self.refs.values(), key=_order)",
        "set(self.refs.values())",
    ),
    Mutant(
        "law 2: bound",
        "the watermark does not stay a bound behind",
        STAGES + "align/tracks.py",
        "Micros(self.progress - self.bound)",
        "self.progress",
    ),
    Mutant(
        "law 2: never back",
        "the watermark goes back",
        STAGES + "align/session.py",
        "max(before, joint_watermark(states, self.settings, patient=not self.live))",
        "joint_watermark(states, self.settings, patient=not self.live)",
    ),
    Mutant(
        "law 2: minimum",
        "the fastest track decides",
        STAGES + "align/tracks.py",
        "return min(map(_watermark,",
        "return max(map(_watermark,",
    ),
    Mutant(
        "law 2: patience",
        "a track that trails is waited for",
        STAGES + "align/tracks.py",
        "if patient or track.last - track.progress <= settings.patience]",
        "]",
    ),
    Mutant(
        "law 2: waited for",
        "revising tracks are waited for",
        STAGES + "align/tracks.py",
        "for track, state in states.items() if track.modality in settings.wait_for}",
        "for track, state in states.items()}",
    ),
    Mutant(
        "law 3: idle",
        "idle is judged by the newest topic's clock",
        STAGES + "align/session.py",
        "track.state(clocks[track.modality], idle)",
        "track.state(reached.top, idle)",
    ),
    Mutant(
        "law 3: idle by the wall",
        "a partition that is not read to its end counts as now",
        STAGES + "align/aligner.py",
        "max(self._clocks[modality], now) if clock.caught_up else self._clocks[modality]",
        "max(self._clocks[modality], now)",
    ),
    Mutant(
        "law 3: flush",
        "nothing is flushed when all is silent",
        STAGES + "align/session.py",
        "return ClosedBy(why.value) if why else None",
        "return None",
    ),
    Mutant(
        "law 3: reactivation",
        "an ended track stays ended",
        STAGES + "align/tracks.py",
        "            self.progress = until\n            self.ended = False\n",
        "            self.progress = until\n",
    ),
    Mutant(
        "law 3: silence is told",
        "no mark when all is silent",
        STAGES + "align/session.py",
        "if why and why is not self.silence and states:",
        "if why is Silence.END and why is not self.silence and states:",
    ),
    Mutant(
        "law 4: whole revisions",
        "a revision holds only what is new",
        STAGES + "align/windows.py",
        "        self.revision += 1\n        self.release()\n",
        "        self.revision += 1\n"
        "        if revision and self.held:\n"
        "            first = min(held.offset for held in self.held.values())\n"
        "            self.refs = {key: ref for key, ref in self.refs.items() if ref.origin.offset >= first}\n"
        "        self.release()\n",
    ),
    Mutant(
        "law 4: completeness", "events are not counted", STAGES + "align/session.py", "events=window.counts.get(modality, 0)", "events=0"
    ),
    Mutant(
        "law 5: late by the event's end",
        "late is judged by an event's end",
        STAGES + "align/session.py",
        'return "horizon" if clock - event.start',
        'return "horizon" if clock - event.end',
    ),
    Mutant(
        "law 5: late by its own arrival",
        "late is judged by the record's own timestamp",
        STAGES + "align/session.py",
        'return "horizon" if clock - event.start',
        'return "horizon" if event.arrival - event.start',
    ),
    Mutant(
        "law 5: conservation",
        "what is late is dropped silently",
        AGENTS + "align.py",
        "            self.pending.append((write_late(output), record.partition, None))\n\n",
        "\n",
    ),
    Mutant(
        "law 6: future",
        "a time far ahead is accepted",
        STAGES + "align/aligner.py",
        "        if ahead <= allowed:",
        "        if ahead <= 100 * allowed:",
    ),
    Mutant(
        "law 7: duplicates",
        "an event is known by where it stands",
        STAGES + "align/session.py",
        "key, words = (track, event.id), words_size(event.words)",
        'key, words = (track, f"{event.id}.{event.origin.offset}"), words_size(event.words)',
    ),
    Mutant(
        "law 8: intervals",
        "an event is in its first window only",
        STAGES + "align/windows.py",
        "        last = (end - 1 if end > start else start) // self.hop\n",
        "        last = start // self.hop\n",
    ),
    Mutant(
        "law 8: forgotten too early",
        "a window is forgotten at half its horizon",
        STAGES + "align/session.py",
        "over = not self.live or window.end + self.settings.horizon <= low",
        "over = not self.live or window.end + self.settings.horizon // 2 <= low",
    ),
    Mutant(
        "law 8: forgotten by now",
        "a window is forgotten by what was read, not by the low-water",
        STAGES + "align/aligner.py",
        "return held.before if held else max(self._clocks[modality], self._caught_up[modality])",
        "return max(self._clocks[modality], self._caught_up[modality])",
    ),
    Mutant(
        "law 8: caught up is now - skew",
        "a partition read to its end counts as ahead of now",
        STAGES + "align/aligner.py",
        "Micros(now - self.settings.skew - FRESH) if clock.caught_up",
        "Micros(now + 5 * self.settings.skew) if clock.caught_up",
    ),
    Mutant(
        "law 9: bound",
        "open windows are not bounded",
        STAGES + "align/aligner.py",
        "if self._room.open > self.settings.max_events:",
        "if self._room.open > 100 * self.settings.max_events:",
    ),
    Mutant(
        "law 9: forgotten",
        "windows are never forgotten",
        STAGES + "align/session.py",
        "while self.windows and not self._still_to_be_silent():",
        "while False:",
    ),
    Mutant(
        "law 9: late for ever",
        "a camera of which only late events come is waited for",
        STAGES + "align/session.py",
        "stuck = self.live and reached.least",
        "stuck = not self.live and reached.least",
    ),
    Mutant(
        "law 9: settled",
        "a window is forgotten before its last revision is acknowledged",
        STAGES + "align/windows.py",
        "return self.offset if self.unwritten is None else None",
        "return self.offset",
    ),
    Mutant(
        "law 9: replaced workers",
        "a window whose revisions another worker wrote further is never forgotten",
        STAGES + "align/aligner.py",
        "if output.revision == window.unwritten:",
        "if output.revision + 1 == window.revision:",
    ),
    Mutant(
        "law 9: the end",
        "the furthest window is forgotten while others stay",
        STAGES + "align/session.py",
        "return next(iter(self.windows)) == self.furthest",
        "return len(self.windows) == 1",
    ),
    Mutant(
        "recorded: end marks",
        "end marks are not read again",
        STAGES + "align/session.py",
        "            held = self.end_marks[modality] = self.shared.hold(modality, mark.origin.offset, before)\n"
        "            held.needed += 1\n",
        "            pass\n",
    ),
)

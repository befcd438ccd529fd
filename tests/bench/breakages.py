"""What `mutants.py` breaks: each law of alignment and each rule of delivery, one at a time, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass

STAGES, AGENTS, KAFKA = "streamer/stages/", "streamer/agents/", "streamer/kafka/"
UNITS = tuple(f"tests/stages/test_align{part}.py" for part in ("", "_tracks", "_gap", "_stale"))
ALIGNER = (*UNITS, "tests/simulator", "tests/stages/test_align_laws.py")
DECIDER = (*(f"tests/stages/test_decide{part}.py" for part in ("", "_sent", "_rules", "_laws")), "tests/simulator")
SOURCE = ("tests/kafka/test_source.py", "tests/kafka/test_merge.py", "tests/kafka/test_order.py")


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in `file`, and becomes `new`: then `rule` is broken, which one of `tests` must tell."""

    rule: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ALIGNER


MUTANTS = (
    # the laws of DESIGN, section 2
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
        "        revision, self.revision = self.revision, self.revision + 1\n        self.release()\n",
        "        revision, self.revision = self.revision, self.revision + 1\n"
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
        "while self.windows and not self._still_to_be_silent:",
        "while False:",
    ),
    Mutant(
        "recorded: end marks",
        "end marks are not read again",
        STAGES + "align/session.py",
        "            held = self.end_marks[modality] = self.shared.hold(modality, mark.origin.offset, before)\n"
        "            held.needed += 1\n",
        "            pass\n",
    ),
    # the rules of DESIGN, section 4
    Mutant(
        "low-water",
        "the checkpoint names the position",
        STAGES + "align/aligner.py",
        "return LowWater(held.offset, held.before) if held else LowWater(position, self._clocks[modality])",
        "return LowWater(position, self._clocks[modality])",
    ),
    Mutant(
        "clock before the offset",
        "the checkpoint's clock includes the record",
        STAGES + "align/aligner.py",
        "return LowWater(held.offset, held.before) if held else",
        "return LowWater(held.offset, self._clocks[modality]) if held else",
    ),
    Mutant(
        "oldest window",
        "a restart reads `windows` from the end",
        STAGES + "align/aligner.py",
        "return next(iter(self._out), None)",
        "return None",
    ),
    Mutant(
        "duplicate suppression",
        "a restart does not look at what is out",
        AGENTS + "align.py",
        "        lane.aligner.restore(standing, {",
        "        lane.aligner.restore([], {",
    ),
    Mutant(
        "acknowledged first",
        "a checkpoint is written while half a batch is in the state",
        KAFKA + "source.py",
        "        self._holds = False  # half a batch is in the state: nothing to save\n",
        "",
        SOURCE,
    ),
    Mutant(
        "single writer",
        "what another wrote is not taken over",
        AGENTS + "align.py",
        "        if at.offset > lane.end:",
        "        if at.offset > lane.end + (1 << 40):",
    ),
    Mutant(
        "single writer at checkpoints",
        "a checkpoint does not look for another's records",
        AGENTS + "align.py",
        "        if positions.get(WINDOWS, 0) > lane.end:",
        "        if positions.get(WINDOWS, 0) > lane.end + (1 << 40):",
        (*ALIGNER, "tests/agents/test_align_guarantee.py"),
    ),
    Mutant(
        "merge", "two records under one revision count as one", STAGES + "align/windows.py", "lacking = mine != theirs", "lacking = False"
    ),
    Mutant(
        "merge: what waits",
        "an older foreign record makes a waiting revision unneeded",
        STAGES + "align/windows.py",
        "lacking = waits or not theirs <= mine",
        "lacking = not theirs <= mine",
    ),
    Mutant(
        "gap",
        "what retention took is not told in windows",
        AGENTS + "align.py",
        "        self.lanes[partition].aligner.gap(Modality(topic), wanted)\n",
        "",
    ),
    Mutant(
        "gate",
        "what was fetched before a rebalance is handed over after it",
        KAFKA + "source.py",
        "                    if not self._open or generation != self._generation:\n                        return",
        "                    if False:\n                        return",
        SOURCE,
    ),
    Mutant(
        "fence",
        "a worker that stood still goes on",
        KAFKA + "fence.py",
        "if not working or still <= self._limit:",
        "if True:",
        SOURCE,
    ),
    Mutant(
        "arrival order",
        "topics are handed over as they come",
        KAFKA + "merge.py",
        "    limit = min((queue.top for queue in behind), default=None)",
        "    limit = None",
        SOURCE,
    ),
    # decide
    Mutant(
        "decide: a replay",
        "an applied record is applied again",
        STAGES + "decide.py",
        "        if offset <= memory.offset:\n            return []\n",
        "",
        DECIDER,
    ),
    Mutant(
        "decide: the first score counts",
        "an older revision replaces a newer",
        STAGES + "decide.py",
        "        if not memory.learn(scores.start, scores.revision):\n            return False\n",
        "        memory.learn(scores.start, scores.revision)\n",
        DECIDER,
    ),
    Mutant(
        "decide: frozen edge",
        "what left the horizon still changes",
        STAGES + "decide.py",
        "if memory.edge is not None and scores.start < memory.edge:",
        "if False:",
        DECIDER,
    ),
    Mutant(
        "decide: retraction",
        "what no longer holds is not retracted",
        STAGES + "line.py",
        "            for lost in gone:\n                yield self._retract(lost, cause)\n",
        "",
        DECIDER,
    ),
    Mutant(
        "decide: kept ids",
        "an episode that moved gets an id of its own",
        STAGES + "line.py",
        "        pairs = match(episodes, touched, self.timeline.carry)\n",
        "        pairs = [(episode, None) for episode in episodes]\n",
        DECIDER,
    ),
    Mutant(
        "decide: idle resolves",
        "a mark does not resolve what is open",
        STAGES + "line.py",
        "        resolved = quiet or (",
        "        resolved = (",
        DECIDER,
    ),
    Mutant(
        "decide: duration",
        "durations are not asked for",
        STAGES + "line.py",
        "return episode.longest * self.mine.judged.hop >= self.rule.duration",
        "return True",
        DECIDER,
    ),
    Mutant(
        "decide: states first",
        "the checkpoint names offsets that no state has",
        AGENTS + "decide.py",
        "have < applied:",
        "have < applied - (1 << 40):",
        ("tests/agents/test_decide.py", "tests/simulator"),
    ),
    # infer and transcribe
    Mutant(
        "infer: scores in order",
        "a window is done before the one ahead of it",
        STAGES + "lane.py",
        "takewhile(self._complete, islice(self._waiting, most))",
        "filter(self._complete, islice(self._waiting, most))",
        ("tests/stages/test_lane.py", "tests/simulator"),
    ),
    Mutant(
        "infer: commit after the score",
        "a window is committed when it is read",
        STAGES + "lane.py",
        "        self._read = arrival\n",
        "        self._read = arrival\n        self.next_offset = offset + 1\n",
        ("tests/stages/test_lane.py", "tests/simulator"),
    ),
    Mutant(
        "transcribe: position",
        "the checkpoint stands inside a segment",
        STAGES + "transcribe.py",
        "low, clock = min([(position, self._clock), *held])",
        "low, clock = position, self._clock",
        ("tests/stages/test_transcribe.py", "tests/stages/test_transcribe_laws.py"),
    ),
    Mutant(
        "transcribe: detector",
        "the voice detector is not reset at a boundary",
        STAGES + "transcribe.py",
        "        self._vad.reset()\n",
        "",
        ("tests/stages/test_transcribe.py", "tests/stages/test_transcribe_laws.py"),
    ),
    # the log, the group, the way out
    Mutant(
        "law 8: an end is as old as its fetch",
        "what may have arrived since counts as read",
        STAGES + "align/aligner.py",
        "now - self.settings.skew - FRESH",
        "now - self.settings.skew",
    ),
    Mutant(
        "delivery: no silent reset",
        "a lost offset becomes the log's start, and nobody is told",
        KAFKA + "client.py",
        '"auto_offset_reset": "none"',
        '"auto_offset_reset": "earliest"',
        (*SOURCE, "tests/agents"),
    ),
    Mutant(
        "delivery: co-located",
        "partitions that do not belong together are worked on",
        KAFKA + "source.py",
        "if partitions != set(self._all(self._topics)):",
        "if False:",
        SOURCE,
    ),
    Mutant(
        "delivery: watched",
        "who stands still stays",
        KAFKA + "source.py",
        "if still > STALLED and not self._failure:",
        "if False:",
        SOURCE,
    ),
    Mutant(
        "delivery: at home",
        "a record in another partition than its key's is taken",
        STAGES + "headers.py",
        "(home := partition_of(record.key, partitions)) != record.partition:",
        "(home := partition_of(record.key, partitions)) < 0:",
        ("tests/stages/test_envelope.py",),
    ),
    Mutant(
        "deliver: once at a sink",
        "an alert that was sent is sent again",
        AGENTS + "deliver.py",
        "if alert in recent:",
        "if False:",
        ("tests/agents/test_deliver.py",),
    ),
)

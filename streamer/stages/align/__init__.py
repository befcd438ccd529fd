"""The aligner: events and ticks in, windows out. START at `aligner.py`; one aligner serves one partition number.

aligner = Aligner(settings, expected, room)        # expected: SessionId -> modalities (from the configuration); room: one per process
aligner.restore(tail_of_windows, clocks)           # after an assignment; nothing to restore: leave it out
aligner.gap(modality, offset)                      # then, where retention took records from `offset` on
outputs = aligner.push(event_or_mark, clock)       # Late or Rejected at once; never a window
outputs = aligner.tick(clocks, now)                # after each batch, and when nothing arrives: windows, session marks
aligner.written(window_or_mark, offset)            # each Window and SessionMark, once `windows` acknowledged it
aligner.low_water(modality, position)              # for the checkpoint, once everything emitted is acknowledged
aligner.oldest_out()                               # None: nothing to remember; use the next offset of `windows`
aligner.merge(foreign)                             # another owner wrote into our output partition: the next tick mends it
aligner.tally, aligner.watermarks()                # totals and gauges
"""

from streamer.stages.align.aligner import Aligner
from streamer.stages.align.outputs import LowWater, Output, Rejected, Tally
from streamer.stages.align.shared import Room

__all__ = ["Aligner", "LowWater", "Output", "Rejected", "Room", "Tally"]

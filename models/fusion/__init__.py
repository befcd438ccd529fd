"""From what encoders made of a window's events to one score for each class: `gated` is what runs, the others are one method a file."""

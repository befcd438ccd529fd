"""Pure stages: values in, values out. No clock, no I/O, no metric, no logger, no framework."""

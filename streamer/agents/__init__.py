"""One file per role: read, call the stage, emit, count. No rule inside."""

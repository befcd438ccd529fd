"""Where alerts go. A sink is one method; its position moves only after it has said yes."""

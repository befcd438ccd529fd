"""Everything that speaks to a broker: client, topics, the checkpointed source, the embedded broker."""

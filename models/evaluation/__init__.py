"""How well scores rank, how honest they are as probabilities, what alarms they make, and how sure we are of each figure."""

"""How a fusion head comes to be: windows that are already encoded, a recipe and a seed to a `models.head.FusionHead`."""

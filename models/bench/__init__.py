"""How fast the models are, on the machine at hand. `python -m models.bench --help` says what is measured and what is left out."""

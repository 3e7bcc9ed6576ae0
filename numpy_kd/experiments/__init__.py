"""One file for each table: a frozen dataclass of settings, and `run(settings) -> dict`."""

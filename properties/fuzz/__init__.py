"""Damaged files by the thousand: `python -m properties.fuzz.__main__ --help`."""

"""Begins a variant of one's own: its module, its oracle, and the conftest.py that has them judged."""

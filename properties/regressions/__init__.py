"""Shrunk failures as JSON fixtures, replayed on every run: fixture.py writes and reads them, replay.py runs
them.
"""

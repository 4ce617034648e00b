"""Adapters that nobody here designed, each as a user would write it from its paper, with its oracle."""

"""The named silent failures, by what they are in."""

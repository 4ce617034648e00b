"""Silent failures of merging."""

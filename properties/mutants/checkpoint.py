"""Silent failures of checkpoint."""

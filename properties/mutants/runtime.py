"""Silent failures of runtime."""

"""Silent failures of inits."""

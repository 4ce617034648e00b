"""Silent failures of targeting."""

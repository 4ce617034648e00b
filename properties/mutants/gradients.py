"""Silent failures of gradients."""

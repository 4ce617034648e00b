"""Silent failures of calibration."""

"""What can be judged, and how a case of it is run and observed."""

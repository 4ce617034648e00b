"""One claim a property, and nothing else."""

"""What is saved comes back, and nothing else does."""

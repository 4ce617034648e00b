"""What must hold of every adapter, and the machinery that proves that the checks can see."""

"""Where a fault is: ranked places, what earlier runs remember, and how often the ranking is right."""

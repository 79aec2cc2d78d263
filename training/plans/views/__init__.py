"""Plans on the terminal and as pages with pictures."""

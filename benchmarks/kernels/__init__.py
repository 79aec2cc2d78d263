"""``dropdrift bench kernels``: kernels and what they replace, checked and timed side by side."""

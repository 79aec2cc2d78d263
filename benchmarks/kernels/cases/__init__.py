"""One module for each operator: its inputs, who computes it, and whether the result is right."""

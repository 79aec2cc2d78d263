"""T2Diff: a user tower that rebuilds the next item by diffusing interest drift."""

"""What T2Diff and its baselines share: items, softmax losses, the model around a user tower."""

"""The check of all ranks before the first step: versions, exchanges, and who is slow."""

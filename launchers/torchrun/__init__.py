"""torchrun as launched jobs have it: it says which rank failed first, and of what."""

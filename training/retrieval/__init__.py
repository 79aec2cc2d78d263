"""An index of item vectors from a trained matching model, and answers for users."""

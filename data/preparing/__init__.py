"""Raw rows in, a prepared data set out: splitting, fitting, writing, counting. Needs no torch."""

"""A prepared data set in, batches out: decoding, shuffling, lanes, a cursor that resumes."""

"""Schema, adaptors, encoding, Parquet in, batches out."""

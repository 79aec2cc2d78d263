"""One adaptor for each official layout: files in, raw rows out."""

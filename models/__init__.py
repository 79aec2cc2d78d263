"""What is computed: embeddings from a schema, DCN-V2 and AsymDiffRec. Single-device code."""

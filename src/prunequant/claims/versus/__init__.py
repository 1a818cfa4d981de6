"""Claims of Part III, pruning against quantization: one module a chapter."""

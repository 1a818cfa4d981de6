"""Claims of Part IV, the order of the two: one module a chapter."""

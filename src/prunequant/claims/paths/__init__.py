"""Claims of Part II, path following: one module a chapter."""

"""Claims of the last part, results later than the four papers: one module a chapter."""

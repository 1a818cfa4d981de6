"""Claims of Part V, case studies: one module a chapter."""

"""Claims of Part I, random subset sums and strong lottery tickets: one module a chapter."""

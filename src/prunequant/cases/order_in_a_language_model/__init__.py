"""Pruning and quantizing a language model in either order."""

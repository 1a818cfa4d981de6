"""Path following through the layers of a language model."""

"""Real networks and their fine-tuning; torch is imported inside the functions that need it."""

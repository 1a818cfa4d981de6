"""Learned step sizes against gradual pruning, at equal size, after fine-tuning."""

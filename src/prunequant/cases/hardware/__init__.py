"""What sparsity and few bits are worth on a machine: measured speed and bytes."""

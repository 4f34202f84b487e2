"""Many models smoke-run, each in a process of its own. Torch-free: only those processes import torch."""

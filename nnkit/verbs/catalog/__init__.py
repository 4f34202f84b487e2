"""Architectures measured for a catalog, many in a process. Torch-free: only those processes import torch."""

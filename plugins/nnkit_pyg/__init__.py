"""The models of PyTorch Geometric: `pyg/GCN`."""

"""The options of the multi-layer perceptrons. Torch-free."""

# ---- mlp

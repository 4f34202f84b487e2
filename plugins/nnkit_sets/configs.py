"""The options of the networks of sets. Torch-free."""

# ---- deepsets, set-transformer


# ---- graph-transformer

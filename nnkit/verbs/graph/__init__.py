"""The graph of a model: its calls as a tree, and the tensors that flow between them."""

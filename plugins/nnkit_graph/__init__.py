"""Networks on graphs: graph convolution and its relatives."""

"""The multilayer perceptron, as a plugin of nnkit."""

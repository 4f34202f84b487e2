"""What can only be found out about a model by trying: sizes of its image, and shapes of its outputs."""

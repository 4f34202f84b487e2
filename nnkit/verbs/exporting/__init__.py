"""The verb export: write a file, and prove that it is the model."""

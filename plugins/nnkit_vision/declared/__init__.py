"""What the plugin declares, family by family. Torch-free."""

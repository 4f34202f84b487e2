"""The models of the transformers package: `transformers/bert --task sequence-classification`."""

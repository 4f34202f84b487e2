"""Adapter for timm: its architectures under `timm/`."""

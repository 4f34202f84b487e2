"""Folders and repositories that timm has written: a `config.json` with the architecture and its arguments."""

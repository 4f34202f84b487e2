"""Writes a new plugin for the user: a small, complete distribution, from the templates in this folder."""

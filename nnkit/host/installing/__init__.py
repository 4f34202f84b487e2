"""Installs and removes plugins, and tells what each brings."""

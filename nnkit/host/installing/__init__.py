"""Installs and removes plugins, and reports what each adds."""

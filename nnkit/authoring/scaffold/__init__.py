"""Writes a plugin of the user's own: a complete small distribution, from templates beside this module."""

"""Finds, isolates, settles and installs plugins. Torch-free.

Imports only `contract` and what is below it.
"""

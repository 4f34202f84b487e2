"""Turns a reference into a ModelSpec, and that into a module, its weights, its inputs and its device.

Imports only `host` and what is below it.
"""

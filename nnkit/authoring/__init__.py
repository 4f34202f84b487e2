"""Helps those who write plugins: the scaffold of a new one, and the conformance suite.

Imports only `render`, `api` and what is below them.
"""

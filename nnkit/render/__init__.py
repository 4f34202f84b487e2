"""Turns a report into text, JSON, CSV, Markdown, LaTeX or another tool's format.

Imports only `verbs` and what is below it. Never computes.
"""

"""What a plugin can declare and implement: declarations, config, axes, specs, hooks and requests. Torch-free.

Imports only `errors`.
"""

"""What a plugin may say: declarations, config, axes, specs, hooks and requests. Torch-free.

Imports only `errors`.
"""

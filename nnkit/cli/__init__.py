"""The command line: parses and prints, one thin file for each command. Torch-free until a command runs.

May import every room.
"""

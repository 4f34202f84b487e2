"""A model in many processes: does it train as in one process, and how much memory does each of them need?"""

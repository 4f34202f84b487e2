"""A model in many processes: does it train as it does in one, and what does each of them need?"""

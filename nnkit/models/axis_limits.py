"""Which sizes the axes of a guessed input may have, found by running: any, multiples of 16, at most 64."""
from collections.abc import Mapping, Sequence
class Limits:
    def __init__(self, trials, declared, module): self.trials=trials; self.declared=declared
    def free_axes(self, guesses, chosen): return guesses

"""The errors of nnkit, each with an exit code for scripts and a hint for people.

Exit codes: 0 done, 1 failed, 2 usage, 3 a needed plugin is broken or missing, 4 a verification failed.
"""

from collections.abc import Iterable


class NnkitError(Exception):
    """An operation failed: `message` is what went wrong, `hint` is how to fix it.

    details: lines to show between the two, such as the choices that there are.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageProblem(NnkitError):
    """The user asked for something that isn't possible: an unknown name, option, size or file."""

    exit_code = 2


class NoEstimate(NnkitError):
    """The memory of a model can't be estimated; `message` is one sentence that fits as a note in a report."""


class PluginProblem(NnkitError):
    """A plugin that the request needs is broken, missing, or lacks an extra."""

    exit_code = 3


class VerificationFailed(NnkitError):
    """A verification failed: the proof of an export, or a smoke check."""

    exit_code = 4


def damaged_file(path: object, error: object) -> NnkitError:
    """Return the error for a file that can't be read, or that changed after it was written."""
    return NnkitError(f"{path} is damaged: {error}", "export or download it again")


def did_you_mean(word: str, possibilities: Iterable[str]) -> str:
    """Return `did you mean a or b?` with the names closest to `word`, or an empty string."""
    return ask_for(nearest(word, possibilities))


def nearest(word: str, possibilities: Iterable[str]) -> list[str]:
    """Return the names closest to `word`, at most three, the closest first."""
    from difflib import get_close_matches

    return get_close_matches(word, sorted(set(possibilities)), n=3, cutoff=0.6)


def ask_for(names: Iterable[str]) -> str:
    """Return `did you mean a or b?`, or an empty string for no names."""
    choices = " or ".join(names)
    return f"did you mean {choices}?" if choices else ""


def first_line(error: object) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

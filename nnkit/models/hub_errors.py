"""What huggingface_hub raises -> one error of nnkit with a way out. Torch-free."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from nnkit.contract.loading import missing
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, first_line
from nnkit.models.hub_names import PREFIX, HubName


@contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Raise what huggingface_hub raises as an NnkitError."""
    if missing(["huggingface_hub"]):
        raise PluginProblem(
            f"{name.shown} needs the package huggingface_hub", "install it: pip install 'nnkit[hub]'"
        )
    try:
        yield
    except NnkitError:
        raise
    except Exception as error:  # also those of its HTTP library, which differs by version
        raise _problem(name, error) from error


def was_answered(error: Exception) -> bool:
    """Whether the hub has answered, or was never asked because the name is wrong."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code < 500
    return isinstance(error, HFValidationError)


def reason(error: Exception) -> str:
    """Return in words why the hub could not be asked."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE or isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, ValueError):
        return f"{constants.ENDPOINT} doesn't answer as a hub does ({first_line(error)})"
    return f"{constants.ENDPOINT} can't be reached ({first_line(error)})"


def _problem(name: HubName, error: Exception) -> NnkitError:
    from huggingface_hub import constants, errors

    access = "hf auth login, or set HF_TOKEN"
    match error:
        case errors.GatedRepoError():
            page = f"{constants.ENDPOINT}/{name.repository}"
            return NnkitError(
                f"{PREFIX}{name.repository} is gated", f"ask for access at {page}, then: {access}"
            )
        case errors.RepositoryNotFoundError():
            return UsageProblem(
                f"{PREFIX}{name.repository} does not exist, or is private",
                f"check its name; if it is private: {access}",
            )
        case errors.RevisionNotFoundError():
            return UsageProblem(
                f"{PREFIX}{name.repository} has no revision {name.revision!r}",
                "name a branch, a tag or a commit, or leave it out",
            )
        case errors.RemoteEntryNotFoundError():
            return UsageProblem(
                f"{replace(name, file='').shown} has no file {name.file!r}", "check the name of the file"
            )
        case errors.HfHubHTTPError() if was_answered(error) and error.response is not None:
            status = error.response.status_code
            return NnkitError(
                f"{constants.ENDPOINT} answers {status} for {name.shown}", f"if it wants a token: {access}"
            )
        case errors.HFValidationError():
            return UsageProblem(
                f"{brief(name.text)} is not the name of a model on the hub: {first_line(error)}",
                "write it as hub:org/name, hub:org/name@revision",
            )
    return NnkitError(
        f"{name.shown} can't be read: {reason(error)}",
        "what is in the cache of this machine, or in a folder, needs no network",
    )

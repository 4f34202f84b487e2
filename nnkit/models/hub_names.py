"""How a model on the Hugging Face hub is named: `hub:org/name@revision`. Torch-free, and asks no one."""

from dataclasses import dataclass, replace

from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem
from nnkit.models.weight_files import SUFFIXES

PREFIX = "hub:"


@dataclass(frozen=True)
class HubName:
    """A model on the hub, or a file of it. revision: a branch, a tag or a commit; empty for the newest."""

    repository: str
    file: str = ""
    revision: str = ""

    @property
    def text(self) -> str:
        """The reference: `hub:org/name/model.safetensors@revision`."""
        path = f"{self.repository}/{self.file}" if self.file else self.repository
        return f"{PREFIX}{path}@{self.revision}" if self.revision else f"{PREFIX}{path}"

    @property
    def shown(self) -> str:
        """The reference as messages show it, with a commit cut short."""
        revision = self.revision
        return replace(self, revision=revision[:8] if _is_commit(revision) else revision).text

    @property
    def model(self) -> str:
        """The reference of the model, whichever file of it this is."""
        return replace(self, file="").text

    @property
    def is_fixed(self) -> bool:
        """Whether it will always be the same file: its commit is known."""
        return bool(self.file) and _is_commit(self.revision)


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and set(revision) <= {*"0123456789abcdef"}


def names_hub(text: str) -> bool:
    """Whether a reference, or the name of weights, is one of the hub."""
    return text.startswith(PREFIX)


def parse(text: str) -> HubName:
    """Return the name that a reference has. Raises UsageProblem where it can't be one."""
    path, _, revision = text.removeprefix(PREFIX).partition("@")
    words = path.split("/")
    parts = 1 if len(words) == 2 and words[1].endswith(SUFFIXES) else 2  # the oldest have no organization
    if any(word in ("", ".", "..") or "\\" in word for word in words):
        raise UsageProblem(
            f"{brief(text)} is not the name of a model on the hub",
            "write it as hub:org/name, hub:org/name@revision",
        )
    return HubName("/".join(words[:parts]), "/".join(words[parts:]), revision)

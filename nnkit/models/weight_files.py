"""Which file of a folder, or of a model on the hub, holds the weights. Torch-free."""

from collections.abc import Collection

from nnkit.contract.text import shorten
from nnkit.errors import UsageProblem
from nnkit.models.metadata import INDEX

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
PICKLED_INDEX = ".bin.index.json"
SUFFIXES = (".safetensors", INDEX, PICKLED_INDEX, *PICKLED)
# As transformers and timm write them, in the order in which they look for them.
USUAL = ("model.safetensors", f"model{INDEX}", "pytorch_model.bin", f"pytorch_model{PICKLED_INDEX}")
LISTED = 4


def choose_weights(names: Collection[str], origin: str) -> str | None:
    """Return the file that holds the weights, None if there is none.

    names: the files, by their paths in the folder. origin: what errors call the folder. Raises UsageProblem
    where several could be meant.
    """
    if usual := [name for name in USUAL if name in names]:
        return usual[0]
    for suffix in (INDEX, ".safetensors"):
        found = sorted(name for name in names if name.endswith(suffix) and "/" not in name)
        if len(found) > 1:
            raise UsageProblem(
                f"{origin} has more than one file of weights: {shorten(found, LISTED)}",
                "shards need their index, model.safetensors.index.json; to look into one: "
                f"nnkit summary {found[0]}",
            )
        if found:
            return found[0]
    return None

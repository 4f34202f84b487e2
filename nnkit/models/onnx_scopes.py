"""The modules that a node of an ONNX file comes from, in the form in which torch writes them. Torch-free.

: net.Net/layers: torch.nn.modules.container.Sequential/layers.0: torch.nn.modules.linear.Linear/…
"""

NAMESPACE = "namespace"  # the key in the metadata of a node
NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"


def scopes_of(text: str) -> list[tuple[str, str]]:
    """Return the modules around a node from the outermost inward, each with its path and its class.

    The first has the path ""; torch writes the node itself behind the modules.
    """
    scopes = []
    for scope in text.split("/"):
        path, separator, name = scope.partition(": ")
        short = name.rpartition(".")[2]
        if separator and short[:1].isupper() and not name.startswith("aten.") and path != NO_MODULE:
            scopes.append((path, short))
    return scopes if scopes and not scopes[0][0] else []


def text_of(scopes: list[tuple[str, str]]) -> str:
    """Return the text for some modules."""
    return "/".join(f"{path}: {name}" for path, name in scopes)

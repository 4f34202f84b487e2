"""Where weights come from, as typed -> as a ModelSpec keeps it, so that it always means the same. Torch-free.

random                          none: they are drawn from the seed
cached                          what a cache of this machine has of the published weights
hub:org/name, hub:org/name@v1   those of a model on the hub, at the commit that this is now
model.safetensors               a file, by its path
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nnkit.contract.loading import load
from nnkit.contract.namespace import Namespace
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, first_line
from nnkit.models import hub
from nnkit.models.hub_names import HubName, names_hub, parse
from nnkit.models.weight_files import choose_weights

RANDOM = "random"
CACHED = "cached"


def settle(spec: ModelSpec, zoos: Mapping[str, Namespace], own: str | None = None) -> ModelSpec:
    """Return the spec with weights that mean the same on every machine, or the path of a file.

    zoos: by prefix. own: the weights that the reference has, whatever else was typed. Nothing is downloaded
    but the list of files of a model on the hub. Raises NnkitError where there are no such weights.
    """
    if spec.weights == RANDOM:
        return replace(spec, weights=None)
    if spec.weights == CACHED:
        return replace(spec, weights=_find_cached(spec, zoos, own))
    if spec.weights and names_hub(spec.weights):
        return replace(spec, weights=_settle_hub(parse(spec.weights)).text)
    return spec


def weights_of(listing: hub.Listing) -> HubName | None:
    """Return the file of weights that a model on the hub has, None if it has none.

    Where only the cache of this machine could be asked and has none, it is the model: there may be some.
    """
    file = choose_weights(listing.sizes, listing.name.shown)
    if file is None:
        return listing.name if listing.on_this_machine else None
    return listing.file(file)


def _settle_hub(name: HubName) -> HubName:
    if name.is_fixed:
        return name
    listing = hub.list_files(name)
    if hub.CONFIG in listing.sizes:
        hub.fetch_config(listing, name.revision)
    if not name.file:
        weights = weights_of(listing)
        if weights is None:
            raise UsageProblem(
                f"{listing.name.shown} has no weights that nnkit reads",
                "it reads safetensors, and pytorch_model.bin; name another model, or leave --weights out",
            )
        return weights
    if name.file not in listing.sizes and not listing.on_this_machine:
        raise UsageProblem(
            f"{listing.name.shown} has no file {name.file!r}",
            f"see its files, or leave the file out: {name.model}",
        )
    return listing.file(name.file)


def _find_cached(spec: ModelSpec, zoos: Mapping[str, Namespace], own: str | None) -> str:
    """Return where a cache of this machine has the published weights of a model; nothing is downloaded."""
    if own and names_hub(own):
        name = parse(own)
        if hub.find_cached_weights(name):
            return own
        raise NnkitError(
            f"no cache of this machine has {name.shown}",
            f"download it: --weights {name.model}; or leave the weights random: --weights {RANDOM}",
        )
    namespace = zoos.get(spec.architecture.namespace)
    if namespace is None or not namespace.cached:
        raise UsageProblem(
            f"--weights {CACHED} is for architectures of a zoo that publishes weights, and {spec.reference} "
            "is not one",
            "name a file: --weights FILE",
        )
    path = _ask(namespace, spec)
    if path is None:
        raise NnkitError(
            f"no cache of this machine has weights of {spec.name}",
            "download them: --weights hub:org/name, or with the zoo's own package; without --weights they "
            "are random",
        )
    published = _as_hub_name(path)
    if published is None:
        return str(path)
    if not hub.find_cached_weights(published):
        raise NnkitError(
            f"the cache of this machine has only some of the files of {published.shown}",
            f"download the others: --weights {published.model}",
        )
    return published.text


def _ask(namespace: Namespace, spec: ModelSpec) -> Path | None:
    try:
        path = load(namespace.cached)(spec)
    except NnkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginProblem(
            f"{namespace.prefix} can't look for weights of {spec.name}: "
            f"{type(error).__name__}: {first_line(error)}",
            "see the full error with -v; name a file: --weights FILE",
        ) from error
    return None if path is None else Path(path)


def _as_hub_name(path: Path) -> HubName | None:
    """Return the name on the hub of a file in its cache, None for any other.

    .../models--org--name/snapshots/COMMIT/model.safetensors   ->   hub:org/name/model.safetensors@COMMIT
    """
    parts = path.parts
    for folder, snapshots, commit in zip(parts, parts[1:], parts[2:], strict=False):
        if folder.startswith("models--") and snapshots == "snapshots":
            file = "/".join(parts[parts.index(commit) + 1 :])
            name = HubName(folder.removeprefix("models--").replace("--", "/"), file, commit)
            if hub.find_cached(name) == path:
                return name
    return None

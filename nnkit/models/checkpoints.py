"""Which tensors of a checkpoint are the model's: the key that holds them, and the prefix of their names.

A checkpoint of a training run holds its state dict under a key (`state_dict`, `model`), beside optimizers and
averages, and wrappers put a prefix before each name (`module.`, `_orig_mod.`). Both are found where there is
one choice, and said. Where there are several, the user chooses: `--key model_ema --strip-prefix module.`.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from nnkit.contract.text import LISTED, format_count, shorten
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean

OF_A_MODEL = frozenset(
    "model model_state model_state_dict model_weights module net net_state_dict network params "
    "params_dict state_dict weights".split()
)
"""The keys under which training frameworks save the state dict of a model; its average is under `ema`."""
DEEPEST = 4  # mappings within each other, as in {"ema": {"model": {"module": {…}}}}
COUNTERS = frozenset({"n_averaged"})
"""What torch.optim.swa_utils.AveragedModel has beside the model that it averages."""

logger = logging.getLogger("nnkit")


@dataclass(frozen=True)
class Part:
    """The part of a file that is the model's, as the user chose it. None: it is found.

    Attributes:
        key: Where the state dict is; dotted where mappings are nested.
        prefix: What is taken off each name. Tensors whose names don't begin with it are left out.
    """

    key: str | None = None
    prefix: str | None = None


FOUND = Part()


@dataclass(frozen=True)
class StateDict:
    """Tensors by name, and the key that they are under; empty where the file holds nothing else."""

    key: str
    tensors: Mapping[str, Tensor]

    @property
    def is_average(self) -> bool:
        """Whether its key says that these are averages of the weights over the steps of training."""
        return "ema" in re.split(r"[_.]", self.key)

    @property
    def elements(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def prefix(self) -> str:
        """What all names begin with, in whole parts: `module.model.`."""
        names = [name for name in self.tensors if name not in COUNTERS]
        shared = next(iter(names), "")
        while shared and not all(name.startswith(shared) for name in names):
            shared = "".join(part + "." for part in shared.split(".")[:-2])
        return shared if shared.endswith(".") else ""

    def __str__(self) -> str:
        return f"{len(self.tensors):,} tensors, {format_count(self.elements)} elements"


def state_dicts(content: object, key: str = "", depth: int = DEEPEST) -> Iterator[StateDict]:
    """Yield each mapping of names to tensors that is in the content of a file."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield StateDict(key, content)
    elif depth:
        for name, value in content.items():
            yield from state_dicts(value, f"{key}.{name}" if key else name, depth - 1)


def choose(content: object, path: Path, key: str | None) -> StateDict:
    """Return the state dict of the model: what is under `key`, or the one that there is.

    Frameworks that save an average beside the weights disagree on which of the two is the model, so neither
    is taken unasked. Raises UsageProblem, which lists them, where there are several or none.
    """
    found = list(state_dicts(content))
    if not found:
        raise UsageProblem(f"{path} has no state dict", "write one with torch.save(model.state_dict(), file)")
    if key is not None:
        return _choose_under(key, found, path)
    likely = [each for each in found if _is_of_a_model(each)] or found
    if len(likely) > 1:
        raise _several(likely, path)
    return likely[0]


def _is_of_a_model(each: StateDict) -> bool:
    return each.key.partition(".")[0] in OF_A_MODEL or each.is_average


def _choose_under(key: str, found: list[StateDict], path: Path) -> StateDict:
    within = [each for each in found if each.key == key or each.key.startswith(f"{key}.")]
    if len(within) > 1:
        raise _several(within, path)
    if within:
        return within[0]
    keys = [each.key for each in found if each.key]
    hint = did_you_mean(key, keys) or ("choose one of these" if keys else "it is one; leave out --key")
    raise UsageProblem(f"{path} has no state dict under the key {brief(key)}", hint, _listed(found))


def _several(found: list[StateDict], path: Path) -> UsageProblem:
    example = next((each for each in found if each.is_average), found[0])
    what = ", for the average over the steps of training" if example.is_average else ""
    return UsageProblem(
        f"{path} has {len(found)} state dicts that may be the model's",
        f"choose one: --key {example.key}{what}",
        _listed(found),
    )


def _listed(found: list[StateDict]) -> list[str]:
    width = max(len(each.key) for each in found)
    return [f"--key {each.key:{width}}  {each}" for each in found if each.key][:LISTED]


@dataclass(frozen=True)
class Renamed:
    """Tensors by the names of the model.

    Attributes:
        tensors: The tensors.
        prefix: What was taken off each name.
        left_out: The names in the file of tensors that are not the model's.
    """

    tensors: Mapping[str, Tensor]
    prefix: str = ""
    left_out: tuple[str, ...] = ()


def rename(tensors: Mapping[str, Tensor], own: Collection[str], path: Path, prefix: str | None) -> Renamed:
    """Return the tensors under the names that they have in the model.

    own: the names in the model. prefix: what to take off. None: that without which most names are the
    model's, if none is as it stands.

    Raises UsageProblem for a prefix that no name has, and where it would have to be found and some names
    don't have it.
    """
    if prefix is not None:
        return _strip(tensors, prefix, path)
    if not tensors.keys().isdisjoint(own):
        return Renamed(tensors)
    fits = Counter(begin for name in tensors for begin in _prefixes(name) if name.removeprefix(begin) in own)
    if not fits:
        return Renamed(tensors)
    best, count = fits.most_common(1)[0]
    stripped = _strip(tensors, best, path)
    if others := set(stripped.left_out) - COUNTERS:
        raise UsageProblem(
            f"{count} tensors in {path} are the model's without {best}, and others don't begin with it",
            f"--strip-prefix {best} takes those and leaves out {shorten(sorted(others), LISTED)}",
        )
    return stripped


def unwrap(tensors: Mapping[str, Tensor], path: Path) -> Renamed:
    """Return the tensors without what torch's own wrappers put before every name."""
    names = [name for name in tensors if name not in COUNTERS]
    wrappers = re.match(r"((module|_orig_mod)\.)*", next(iter(names), ""))
    prefix = wrappers[0] if wrappers else ""
    if prefix and all(name.startswith(prefix) for name in names):
        return _strip(tensors, prefix, path)
    return Renamed(tensors)


def _prefixes(name: str) -> list[str]:
    """Return `a.` and `a.b.` for `a.b.c`."""
    return [name[: dot.end()] for dot in re.finditer(r"\.", name)]


def _strip(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> Renamed:
    if prefix and not prefix.endswith("."):
        prefix += "."
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not inside:
        begins = Counter(name.partition(".")[0] + "." for name in tensors if "." in name)
        width = max(map(len, begins), default=0)
        raise UsageProblem(
            f"no tensor in {path} has a name that begins with {brief(prefix)}",
            did_you_mean(prefix, begins) or "choose another prefix, or leave out --strip-prefix",
            [f"{begin:{width}}  tensors: {count:,}" for begin, count in begins.most_common(LISTED)],
        )
    return Renamed(inside, prefix, tuple(name for name in tensors if not name.startswith(prefix)))


def report(path: Path, part: Part, state: StateDict, renamed: Renamed) -> None:
    """Log what was found in a file, in words that choose the same, and what was left out of it."""
    words = []
    if part.key is None and state.key:
        words += ["--key", state.key]
    if part.prefix is None and renamed.prefix:
        words += ["--strip-prefix", renamed.prefix]
    found = [f"found {' '.join(words)}"] if words else []
    left_out = [f"left out {shorten(renamed.left_out, LISTED)}"] if renamed.left_out else []
    if found or left_out:
        logger.info("%s: %s", path, "; ".join(found + left_out))

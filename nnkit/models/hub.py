"""Models on the Hugging Face hub, read through huggingface_hub. Torch-free.

The address of the hub, the user's token, the cache and whether there is a network are the settings of
huggingface_hub: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnkit.contract.text import format_bytes
from nnkit.models import metadata
from nnkit.models.hub_errors import explained, reason, was_answered
from nnkit.models.hub_names import HubName

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONFIG = "config.json"
TIMEOUT = 10.0  # seconds
LOG = logging.getLogger("nnkit")


@dataclass(frozen=True)
class Listing:
    """The files of a model at one commit, with their bytes.

    on_this_machine: The hub could not be asked, so only files in the cache of this machine are listed.
    """

    name: HubName
    sizes: Mapping[str, int]
    on_this_machine: bool = False

    def file(self, file: str) -> HubName:
        """Return the name of one of its files."""
        return replace(self.name, file=file)


def list_files(name: HubName) -> Listing:
    """Return the files of a model. If the hub can't be reached, those in the cache of this machine.

    Raises UsageProblem for a model or revision that does not exist, NnkitError where it can't be read.
    """
    with explained(name):
        try:
            info = _api().model_info(
                name.repository, revision=name.revision or None, files_metadata=True, timeout=TIMEOUT
            )
        except Exception as error:
            if was_answered(error) or not (listing := _list_cached(name)):
                raise
            LOG.info("%s; %s is read from this machine's cache", reason(error), listing.name.shown)
            return listing
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    return Listing(HubName(info.id or name.repository, revision=info.sha or name.revision), sizes)


def fetch_config(listing: Listing, revision: str) -> Path:
    """Return the path of a model's config.json on this machine.

    revision: as typed. The cache then knows which commit that is, and finds the model without a network.
    """
    config = listing.file(CONFIG)
    if not listing.on_this_machine:
        with explained(config):
            _download(replace(config, revision=revision), shows_progress=False)
    return fetch(config)


def _list_cached(name: HubName) -> Listing | None:
    """Return what the cache of this machine has of a model, if it has its config."""
    config = find_cached(replace(name, file=CONFIG))
    if config is None:
        return None
    folder = config.parent
    files = (path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    return Listing(HubName(name.repository, revision=folder.name), sizes, on_this_machine=True)


def find_cached(name: HubName) -> Path | None:
    """Return a file in the cache of this machine, without asking the hub; None if it has none."""
    with explained(name):
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name.repository, name.file, revision=name.revision or None)
    return Path(path) if isinstance(path, str) else None


def fetch(name: HubName, shows_progress: bool = False) -> Path:
    """Return the path of a file on this machine; it is downloaded unless it is in the cache.

    shows_progress: on a terminal, unless the user wants it quiet.
    """
    if path := find_cached(name):
        return path
    with explained(name):
        return _download(name, shows_progress)


def _download(name: HubName, shows_progress: bool) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    is_loud = shows_progress and LOG.isEnabledFor(logging.WARNING)
    is_open = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    if hides := is_open and not is_loud:
        disable_progress_bars()
    try:
        return Path(hf_hub_download(name.repository, name.file, revision=name.revision or None))
    finally:
        if hides:
            enable_progress_bars()


def fetch_weights(name: HubName) -> Path:
    """Return the path of a file of weights on this machine, with the shards that it names.

    What isn't in the cache is downloaded, and that is said.
    """
    if not name.file.endswith(".index.json"):
        _announce([name])
        return fetch(name, shows_progress=True)
    index = fetch(name)
    shards = shards_of(name, index)
    _announce(shards)
    for shard in shards:
        fetch(shard, shows_progress=True)
    return index


def find_cached_weights(name: HubName) -> Path | None:
    """Return the path of a file of weights if it, and the shards that it names, are in the cache."""
    path = find_cached(name)
    if path is None or not name.file.endswith(".index.json"):
        return path
    return path if all(map(find_cached, shards_of(name, path))) else None


def shards_of(name: HubName, index: Path) -> list[HubName]:
    """Return the names of the shards that an index names, which is in the file `index`."""
    shard_of, _ = metadata.parse_index(index)
    folder = name.file.rpartition("/")[0]
    return [
        replace(name, file=f"{folder}/{shard}" if folder else shard)
        for shard in dict.fromkeys(shard_of.values())
    ]


def _announce(files: Iterable[HubName]) -> None:
    """Say what will be downloaded, if anything."""
    absent = [each for each in files if find_cached(each) is None]
    if not absent:
        return
    total = 0
    for each in absent:
        with explained(each):
            from huggingface_hub import get_hf_file_metadata

            total += get_hf_file_metadata(url_of(each), timeout=TIMEOUT).size or 0
    first = absent[0]
    what = first.shown if len(absent) == 1 else f"{len(absent)} files of {replace(first, file='').shown}"
    LOG.info("downloading %s (%s)", what, format_bytes(total))


def url_of(name: HubName) -> str:
    """Return the address of a file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(name.repository, name.file, revision=name.revision or None)


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi()

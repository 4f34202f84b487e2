"""Which rank of how many this process is. Torch-free."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

STRATEGIES = ("ddp", "fsdp", "tp")
TIME_LIMIT = 120.0  # seconds

joined: list["World"] = []
"""The worlds that this process has been in."""


@dataclass(frozen=True)
class World:
    """One of `size` processes: number `rank` of all, `local_rank` of those on this machine."""

    rank: int
    size: int
    local_rank: int

    @property
    def leads(self) -> bool:
        """Whether this is the rank that reports for all."""
        return self.rank == 0


def world_around(environment: Mapping[str, str] = os.environ) -> World | None:
    """Return the world that this process was started in, by torchrun or anything that sets its variables."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        return None
    rank = int(environment["RANK"])
    return World(rank, int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", rank)))

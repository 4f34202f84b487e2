"""A sweep on the workers of a Dask cluster. https://distributed.dask.org"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster, as_completed

from nnkit import Executed, ExecuteRequest, NnkitError

ADDRESS = "DASK_SCHEDULER_ADDRESS"
TIMEOUT = "20s"  # for the scheduler to answer


def run(request: ExecuteRequest) -> Executed:
    """Send the tasks to the cluster and yield each outcome; at the end, cancel tasks not yet started.

    Each worker imports torch once, and forks the processes of its models from there.
    """
    with _open_client(request.jobs) as client:
        futures = client.map(request.function, request.tasks, pure=False, retries=0)
        tasks = dict(zip(futures, request.tasks, strict=True))
        try:
            for future in as_completed(futures):
                yield tasks[future], future.exception() or future.result()
        finally:
            client.cancel(futures, force=True)


@contextmanager
def _open_client(jobs: int | None) -> Iterator[Client]:
    """Yield a client of the scheduler in the environment variable, or of new workers on this machine."""
    if address := os.environ.get(ADDRESS):
        with _connect(address) as client:
            yield client
        return
    # A worker's memory isn't limited: the models run in processes of their own.
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": ":0"}
    workers = LocalCluster(n_workers=jobs or 1, silence_logs=logging.ERROR, **options)
    with workers as cluster, Client(cluster) as client:
        yield client


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=TIMEOUT)
    except OSError as error:
        raise NnkitError(f"no Dask scheduler answers at {address}", f"check {ADDRESS}") from error

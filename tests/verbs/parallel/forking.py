"""Ranks that are forked from one process, which has imported torch for all of them."""

import multiprocessing
import tempfile


def fork(take_part, size, words):
    """Call `take_part(rank, file, words)` in `size` processes; return whether one of them failed."""
    start = multiprocessing.get_context("fork").Process
    with tempfile.TemporaryDirectory() as folder:
        ranks = [start(target=take_part, args=(rank, f"{folder}/store", words)) for rank in range(size)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()
    return any(each.exitcode for each in ranks)

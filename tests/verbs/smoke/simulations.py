"""Simulate many models in this one process: references, inputs and presets in, verdicts out, as JSON."""

import json
import sys

import conftest  # noqa: F401, declares the operators that torchvision lacks here
import torch

from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke.accelerator import Accelerator
from nnkit.verbs.smoke.simulated import check
from nnkit.verbs.smoke.subject import Subject


def main() -> None:
    """Check one after the other on the same fake accelerator."""
    accelerator, host = Accelerator("cuda"), plugin_manager()
    verdicts = {}
    for reference, inputs, preset in json.load(sys.stdin):
        spec = look_up(reference, host, inputs).resolve(preset)
        verdicts[reference] = check(Subject(spec, host, torch.device("cpu")), accelerator)
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()

"""What every test may rely on."""

import importlib.util

import torch


_KEPT: list[torch.library.Library] = []  # definitions live as long as the object that made them


def _declare_torchvision_operators() -> None:
    """Declare the schemas of torchvision's compiled operators where its wheel can't load them.

    Beside a CPU build of torch the compiled library doesn't load, and `import torchvision` then dies
    registering fake kernels for operators that don't exist. No test calls one of them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    _KEPT.append(library)
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_torchvision_operators()

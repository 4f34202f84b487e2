"""Declare torchvision's compiled operators where its wheel can't load them, once torch is imported."""

import importlib.abc
import importlib.util
import sys

KEPT = []


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision" or "torchvision" in sys.modules:
            return
        import torch

        if not KEPT and not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "DEF")
            KEPT.append(library)
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return


sys.meta_path.insert(0, Finder())

"""Declare torchvision's compiled operators where its wheel can't load them, when torchvision is imported."""

import importlib.machinery
import sys

KEPT = []


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        import torch

        if not KEPT and not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "DEF")
            KEPT.append(library)
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        super().exec_module(module)


class Finder:
    """Finds torchvision as Python does, without importing anything yet: nnkit only looks where it is."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Finder)

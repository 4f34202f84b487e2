"""A zoo for tests: multilayer perceptrons, in folders as its own library might write them."""

import json
from pathlib import Path

from nnkit import Architecture, Dim, Namespace, OpenField, TensorSpec, ZooName, hookimpl, open_config

NNKIT_PLUGIN_API = "1.1"
OPTIONS = {"width": OpenField(int, 16), "layers": OpenField(int, 2), "tied": OpenField(bool, False)}


@hookimpl
def nnkit_namespaces():
    return [
        Namespace(
            prefix="tiny",
            summary="Multilayer perceptrons",
            package="json",
            distribution="tiny-zoo",
            install="pip install tiny-zoo",
            names=f"{__name__}:names",
            declare=f"{__name__}:declare",
            read=f"{__name__}:read",
            cached=f"{__name__}:cached",
        )
    ]


def names(folder):
    return [ZooName("mlp", "mlp")]


def declare(request):
    return Architecture(
        name=request.name,
        summary="A multilayer perceptron",
        build=f"{__name__}:build",
        config=open_config("MlpOptions", OPTIONS),
        inputs=[TensorSpec("input", ("batch", "width"))],
        outputs=[TensorSpec("output", ("batch", "width"))],
        dims={"batch": Dim(default=1)},
    )


def build(config):
    from torch import nn

    layers = [nn.Linear(config.width, config.width) for _ in range(config.layers)]
    if config.tied:
        for layer in layers[1:]:
            layer.weight = layers[0].weight
    return nn.Sequential(*layers)


def read(request):
    if request.config.get("model_type") != "tiny-mlp":
        return None
    if request.config.get("broken"):
        raise KeyError("broken")
    assert json.loads((request.path / "config.json").read_text()) == request.config
    config = {key: request.config[key] for key in OPTIONS if key in request.config}
    dtype = {"dtype": request.config["dtype"]} if "dtype" in request.config else {}
    return {"architecture": "tiny/mlp", "config": config, **dtype}


def cached(spec):
    from huggingface_hub import try_to_load_from_cache

    if not spec.config.tied:
        path = try_to_load_from_cache("org/mlp", "model.safetensors")
        return path if isinstance(path, str) else None
    path = Path("tied-0123abcd.pth")
    return path if path.is_file() else None

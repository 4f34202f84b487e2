"""Three architectures: one serves build itself, one is served by this plugin's hook, one by core."""

from dataclasses import dataclass

from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    pass


def architecture(name, **more):
    x = TensorSpec("x", ("batch", 3))
    return Architecture(
        name=name, summary=name, build="nnkit_order:by_core", config=NoOptions, inputs=[x],
        outputs=[TensorSpec("y", ("batch", 3))], dims={"batch": Dim(default=1)}, **more,
    )  # fmt: skip


@hookimpl
def nnkit_architectures():
    own = {"build": "nnkit_order:by_architecture"}
    return [architecture("self-served", handlers=own), architecture("hooked"), architecture("plain")]


@hookimpl
def nnkit_build(request):
    return made("hook") if request.spec.name in ("order/hooked", "order/self-served") else None


def by_architecture(request):
    return made("architecture")


def by_core(config):
    return made("core")


def made(by):
    from torch import nn

    module = nn.Linear(3, 3)
    module.made_by = [by]
    return module

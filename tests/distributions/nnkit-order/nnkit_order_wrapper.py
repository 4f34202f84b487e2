"""Surrounds every build, whoever serves it."""

from nnkit import hookimpl

NNKIT_PLUGIN_API = "1.0"


@hookimpl(wrapper=True)
def nnkit_build(request):
    module = yield
    module.made_by = [*getattr(module, "made_by", []), "wrapper"]
    return module

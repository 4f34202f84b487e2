"""The source of a small plugin, as a text, for tests to change."""

PLUGIN = """
from dataclasses import dataclass
from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "{api}"

@dataclass(frozen=True, kw_only=True)
class Config:
    {field}: int = 1

@hookimpl
def nnkit_architectures():
    return [Architecture(name="{name}", summary="", build="math:sqrt", config=Config,
                         inputs=[TensorSpec("x", ("batch",))], outputs=[], dims={{"batch": Dim(default=1)}})]
"""


def plugin(name="net", api="1.0", field="width"):
    """Return the source of a plugin of one architecture."""
    return PLUGIN.format(name=name, api=api, field=field)

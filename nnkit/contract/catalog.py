"""What is known of an architecture without building it: one row of a catalog. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CatalogRow:
    """The figures of an architecture under its default options, as a release measured them.

    Attributes:
        name: Its name without the prefix.
        family: The family that `nnkit list` shows it under.
        task: What it is for: `image classification`, `masked language model`.
        parameters: Elements of parameters; each tensor counts once.
        macs: Multiply-adds of one forward on the default input, by nnkit's own count. None: not known.
        activations: Elements of the results of these products. None: not known.
        training: Bytes that a training step with Adam needs on the default input. None: not known; 0: they
            can't be estimated.
        input: The default input, as shown: `3×224×224`.
        sizes: What sizes it may take, in the words of its adapter: `fixed`, `32`, `32 from 64`.
        detail: What its adapter found at release and needs again, in words of its own.
        method: How the figures were made: `meta` or `run`; else why there are none.
        pretrained: Whether its zoo publishes weights for it. None: not known.
        version: The version of the zoo that the figures are of.

    Example:

        row = CatalogRow(name="net-8", parameters=72, macs=64, input="8", method="meta", version="1.0")
        assert (row.parameters, row.activations) == (72, None)
    """

    name: str
    family: str = ""
    task: str = ""
    parameters: int | None = None
    macs: int | None = None
    activations: int | None = None
    training: int | None = None
    input: str = ""
    sizes: str = ""
    detail: str = ""
    method: str = ""
    pretrained: bool | None = None
    version: str = ""

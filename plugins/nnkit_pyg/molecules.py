"""Networks on the positions of atoms. They find neighbors with compiled operators. Torch-free."""

from dataclasses import replace
from importlib.util import find_spec

from nnkit import Architecture, Dim, TensorSpec
from nnkit_pyg import options
from nnkit_pyg.declaring import BATCH, GRAPHS, builder

DIMS = {
    "atoms": Dim(default=20, description="atoms of all molecules"),
    "graphs": replace(GRAPHS, description="molecules in the batch"),
}
Z = TensorSpec(
    "z",
    ("atoms",),
    "int64",
    sample="nnkit_pyg.sampling:atomic_numbers",
    index_of=95,
    description="atomic number of each atom",
)
POS = TensorSpec("pos", ("atoms", 3), sample="nnkit_pyg.sampling:positions", description="position in Å")
MOLECULE = replace(BATCH, shape=("atoms",), description="the molecule that each atom is in, ascending")
INPUTS = [Z, POS, MOLECULE]
RUNNING = ("summary", "export", "smoke-run")


def _lacking(*packages: str) -> dict[str, str]:
    """Return why a model can't run, if a package with the operators that it calls is missing."""
    for package in packages:
        if find_spec(package) is None:
            name = package.replace("_", "-")
            reason = (
                f"it finds neighbors with compiled operators of {name}, which isn't installed; "
                "there are wheels for some versions of torch at https://data.pyg.org"
            )
            return dict.fromkeys(RUNNING, reason)
    return {}


def _on_atoms(
    name: str, config: type, summary: str, paper: str, outputs: list[TensorSpec], *needs: str
) -> Architecture:
    return Architecture(
        name=name,
        summary=summary,
        build=builder(name),
        config=config,
        inputs=INPUTS,
        outputs=outputs,
        dims=DIMS,
        constraints=("graphs <= atoms",),
        paper=paper,
        unsupported=_lacking(*needs),
    )


PER_MOLECULE = [TensorSpec("energy", ("graphs", "out_channels"), description="prediction for each molecule")]
ENERGY = [TensorSpec("energy", ("graphs", 1), description="prediction for each molecule")]

MODELS = (
    _on_atoms(
        "SchNet",
        options.SchNet,
        "SchNet: convolutions whose filters depend on the distance of atoms",
        "Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko, Müller: SchNet: A Continuous-filter Convolutional "
        "Neural Network for Modeling Quantum Interactions, NeurIPS 2017, https://arxiv.org/abs/1706.08566",
        ENERGY,
    ),
    _on_atoms(
        "DimeNet",
        options.DimeNet,
        "DimeNet: messages between atoms that depend on distances and angles",
        "Gasteiger, Groß, Günnemann: Directional Message Passing for Molecular Graphs, ICLR 2020, "
        "https://arxiv.org/abs/2003.03123",
        PER_MOLECULE,
        "pyg_lib",
        "torch_sparse",
    ),
    _on_atoms(
        "DimeNetPlusPlus",
        options.DimeNetPlusPlus,
        "DimeNet++: DimeNet with cheaper interactions",
        "Gasteiger, Giri, Margraf, Günnemann: Fast and Uncertainty-Aware Directional Message Passing for "
        "Non-Equilibrium Molecules, 2020, https://arxiv.org/abs/2011.14115",
        PER_MOLECULE,
        "pyg_lib",
        "torch_sparse",
    ),
    _on_atoms(
        "GNNFF",
        options.GNNFF,
        "GNNFF: forces on atoms from messages along edges",
        "Park, Kornbluth, Vandermause, Wolverton, Kozinsky, Mailoa: Accurate and Scalable Graph Neural "
        "Network Force Field and Molecular Dynamics with Direct Force Architecture, "
        "npj Computational Materials 2021, https://arxiv.org/abs/2007.14444",
        [TensorSpec("force", ("atoms", 3), description="force on each atom")],
        "pyg_lib",
        "torch_sparse",
    ),
    _on_atoms(
        "ViSNet",
        options.ViSNet,
        "ViSNet: vectors and scalars of atoms that interact",
        "Wang and others: Enhancing Geometric Representations for Molecules "
        "with Equivariant Vector-Scalar Interactive Message Passing, Nature Communications 2024, "
        "https://arxiv.org/abs/2210.16518",
        ENERGY,
        "pyg_lib",
    ),
)

"""Which of PyTorch Geometric's names are declared here. Torch-free."""

import re
from pathlib import Path

from nnkit import ZooName

FAMILIES = {
    "message passing": "GCN GraphSAGE GIN GAT PNA EdgeCNN DeepGCNLayer GraphUNet RECT_L SignedGCN",
    "graph transformer": "SGFormer Polynormer",
    "graph encoder": "GPSE GPSENodeEncoder AttentiveFP NeuralFingerprint",
    "molecule": "SchNet DimeNet DimeNetPlusPlus GNNFF ViSNet",
    "links and knowledge": "LightGCN ARLinkPredictor RENet Node2Vec DeepGraphInfomax",
    "part of a graph network": "MLP PMLP LINKX JumpingKnowledge HeteroJumpingKnowledge MaskLabel",
}
"""The models, by family.

The others in `torch_geometric.nn.models` have no network of their own: they wrap modules of the user's (GAE,
VGAE, ARGA, ARGVA, MetaLayer, GroupAddRev), have no parameters (InnerProductDecoder, LabelPropagation,
CorrectAndSmooth), read what earlier calls left (TGNMemory) or the sparse matrix of a dataset (LPFormer,
MetaPath2Vec), or are functions for Captum.
"""


def names(folder: Path) -> list[ZooName]:
    """Return the declared models that the package in this folder has."""
    text = (folder / "nn" / "models" / "__init__.py").read_text(encoding="utf-8")
    listed = re.search(r"__all__\b[^\[]*\[(.*?)\]", text, re.DOTALL)
    exported = set(re.findall(r"['\"](\w+)['\"]", listed[1])) if listed else set()
    return [
        ZooName(name, family)
        for family, members in FAMILIES.items()
        for name in members.split()
        if name in exported
    ]

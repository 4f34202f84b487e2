"""The zoo as tests run it: which architectures have code of their own, each as small as its code allows.

The tests of all architectures take a sample, drawn from a seed. The whole zoo is run by hand:

    NNKIT_TEST_ZOO=all pytest tests/plugins/test_zoo.py tests/authoring/test_conformance.py -m "slow or not slow"
"""

import os
import random

import nnkit
from nnkit.verbs.core_handlers import plugin_manager

EVERY = sorted(plugin_manager().architectures())

# Larger members of a family run the code of the first.
SAME_CODE = {
    *(f"vision/vgg{depth}{bn}" for depth in (13, 16, 19) for bn in ("", "-bn")),
    *(f"vision/resnet{depth}" for depth in (34, 101, 152, 32, 44, 56, 110)),
    *(f"vision/vit-{size}" for size in ("b-16", "b-32", "l-16", "l-32", "h-14")),
    *(f"vision/mixer-{size}-{patch}" for size in "sbl" for patch in (32, 16)),
    *(f"vision/resmlp-{blocks}" for blocks in ("12", "24", "36", "big-24")),
    *(f"vision/densenet{depth}" for depth in (161, 169, 201)),
    *(f"vision/efficientnet-b{number}" for number in range(1, 8)),
    "vision/mobilenet-v3-large",
    *(f"vision/convnext-{size}" for size in ("small", "base", "large")),
}
OWN_CODE = [name for name in EVERY if name not in SAME_CODE]

# Options that keep the code of an architecture and shrink it, for those that are large by default.
TINY: dict[str, dict[str, object]] = {
    "vision/clip": {"preset": "tiny"},
    "sequence/gpt2": {"preset": "tiny"},
    "sequence/transformer": {"preset": "tiny"},
    "sequence/bert": {"preset": "tiny"},
    "sequence/wavenet": {"preset": "tiny"},
    "sequence/mamba": {"preset": "tiny"},
    **{f"generative/{name}": {"preset": "tiny"} for name in ("vq-vae", "ddpm-unet")},
    **{f"generative/dcgan{network}": {"preset": "tiny"} for network in ("", "-generator", "-discriminator")},
    "vision/unet": {"preset": "tiny"},
}
# Large ones that no option shrinks: their smoke-run takes minutes.
LARGE = {f"vision/{name}" for name in ("vgg11", "vgg11-bn", "alexnet", "alexnet-2012", "googlenet-2014")}

LONGEST = 64  # sizes above it are cut


def sample(names, number, seed):
    """Return some of the names, or all if NNKIT_TEST_ZOO is `all`."""
    if os.environ.get("NNKIT_TEST_ZOO") == "all" or number >= len(names):
        return list(names)
    return random.Random(seed).sample(names, number)


def tiny(name, **options):
    """Return the spec of an architecture whose options are small and whose sizes are as declared."""
    return nnkit.resolve(name, **{**TINY.get(name, {}), **options})


def small(name, **options):
    """Return the spec at sizes that are quick to run, too."""
    spec = tiny(name, **options)
    long = {axis: size for axis, size in spec.sizes.items() if size > LONGEST}
    return spec.with_sizes({axis: spec.dims[axis].nearest(LONGEST) for axis in long})

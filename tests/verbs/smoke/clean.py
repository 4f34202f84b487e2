"""Sound models of torchvision, timm and transformers, built small: no check may fail on them.

`python tests/verbs/smoke/clean.py [PATTERN]` runs every check on each and prints the lines that fail or warn.
With `--bare` each is a module with one example, of which nothing is declared, and is checked in a process of
its own; `--rival` adds what pytest-torch fails, where it is installed.
"""

import fnmatch
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import conftest  # noqa: F401 - torchvision's operators
import timm
import torch
import torchvision
import transformers
from torch import nn

import nnkit
from nnkit import Architecture
from nnkit.contract.input_declarations import parse_inputs
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.models.building import build_module
from nnkit.models.sampling import sample_inputs
from nnkit.models.user_modules import NoOptions
from nnkit.verbs.core_handlers import plugin_manager

CLASSES = 7
BATCH = 2
TIME_LIMIT = 300  # seconds for a bare model
TORCHVISION = {
    "alexnet": 64, "convnext_tiny": 32, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 64,
    "inception_v3": 80, "mnasnet0_5": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 32, "regnet_x_400mf": 32,
    "regnet_y_400mf": 32, "resnet18": 32, "resnext50_32x4d": 32, "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 64, "swin_t": 64, "swin_v2_t": 64, "vgg11_bn": 32,
}  # fmt: skip
# The smallest model of each of timm's modules; those of the second lot take images of one size alone.
TIMM = (
    "test_byobnet test_convnext cpubone_nano cs3darknet_focus_s "
    "cspnext_tiny dla46x_c edgenext_xx_small mnasnet_050 efficientvim_m1 "
    "efficientvit_b0 fasternet_t0 fastvit_t8 ghostnet_050 hardcorenas_b "
    "hgnetv2_b0 iformer_t inception_next_atto lcnetv2_small test_mambaout "
    "lcnet_035 mobilevit_xxs test_nfnet pvt_v2_b0 regnetx_002 "
    "repghostnet_050 repvit_m1 test_resnet rexnet_100 shvit_s1 "
    "starnet_s050 ese_vovnet19b_slim_dw"
).split()
TIMM_OF_SIZE = {
    "coat_tiny": 224, "convit_tiny": 224, "crossvit_tiny_240": 240, "deit_tiny_patch16_224": 224,
    "efficientformerv2_s0": 224, "efficientvit_m0": 224, "vit_tiny_patch16_dinov3_qkvb": 256, "levit_128s": 224,
    "test_coatnet": 160, "gmlp_ti16_224": 224, "pit_ti_224": 224, "swiftformer_xs": 224,
    "tiny_vit_5m_224": 224, "test_vit": 160, "vit_tiny_r_s16_p8_224": 224, "test_vit_relpos": 160,
    "xcit_nano_12_p8_224": 224,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "vocab_size": 50, "max_position_embeddings": 32, "num_key_value_heads": 2, "head_dim": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "use_cache": False,
}  # fmt: skip
ENCODERS = (
    "Albert Bert Camembert Deberta DebertaV2 DistilBert Electra Ernie MPNet ModernBert Roberta RoFormer"
).split()
DECODERS = (
    "Bloom Cohere GPTBigCode GPTNeo GPTNeoX Gemma Gemma2 Glm Granite Llama Mamba Mistral OPT Olmo2 Persimmon "
    "Phi Qwen2 Qwen3 StableLm Starcoder2"
).split()
IMAGE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8, "num_channels": 3, "num_labels": 7, "use_mask_token": False,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "image_size": 64, "num_labels": 7}
WINDOWS = {
    "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32,
    "num_labels": 7,
}  # fmt: skip
SEERS = {
    "ConvNext": STAGES, "ConvNextV2": STAGES, "DeiT": IMAGE, "Dinov2": IMAGE, "RegNet": STAGES,
    "ResNet": STAGES, "Swin": WINDOWS, "Swinv2": WINDOWS, "ViT": IMAGE,
}  # fmt: skip


class Logits(nn.Module):
    """A model of transformers, giving its first output alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x, return_dict=False)[0]


def models() -> Iterator[tuple[str, ModelSpec]]:
    """Yield each model by name."""
    for name, side in TORCHVISION.items():
        # The auxiliary head of Inception v3 needs images of 299 pixels.
        aux = {"aux_logits": False, "init_weights": True} if name == "inception_v3" else {}
        factory = getattr(torchvision.models, name)
        yield _spec(
            f"torchvision/{name}", lambda f=factory, aux=aux: f(num_classes=CLASSES, **aux), _image(side)
        )
    for name, side in {**dict.fromkeys(TIMM, 64), **TIMM_OF_SIZE}.items():
        yield _spec(
            f"timm/{name}", lambda name=name: timm.create_model(name, num_classes=CLASSES), _image(side)
        )
    tokens = "x: int64[batch, time=9] < 50"
    for kind in ENCODERS:
        yield _spec(f"transformers/{kind}", lambda kind=kind: _transformer(kind, "ForMaskedLM", TEXT), tokens)
    for kind in DECODERS:
        yield _spec(
            f"transformers/{kind}", lambda kind=kind: _transformer(kind, "ForCausalLM", TEXT), tokens, "time"
        )
    for kind, values in SEERS.items():
        yield _spec(
            f"transformers/{kind}",
            lambda kind=kind, values=values: _transformer(kind, "ForImageClassification", values),
            _image(values["image_size"]),
        )


def _image(side: int) -> str:
    return f"x: float32[batch, 3, {side}, {side}]"


def _spec(
    name: str, build: Callable[[], nn.Module], declaration: str, causal: str = ""
) -> tuple[str, ModelSpec]:
    declared = parse_inputs([declaration])
    architecture = Architecture(
        name=name.replace("/", "-").replace("_", "-").replace(".", "-").lower(),
        summary=name, build=lambda config: build(), config=NoOptions, inputs=declared.tensors, outputs=(),
        dims=declared.dims,
        causal=causal,
    )  # fmt: skip
    return name, make_spec(architecture)


def _transformer(kind: str, head: str, values: dict[str, Any]) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")()
    for key, value in values.items():
        if key in config.attribute_map or hasattr(config, key):
            setattr(config, key, value)
    return Logits(getattr(transformers, f"{kind}{head}")(config))


def example_of(spec: ModelSpec) -> tuple[nn.Module, list[Any]]:
    """Return a model as its library gives it, with one example."""
    module = build_module(spec, plugin_manager(), torch.device("cpu"))
    inputs = sample_inputs(spec, sizes={**spec.sizes, "batch": BATCH}, seed=0, device="cpu")
    return module.model if isinstance(module, Logits) else module, list(inputs)


def check_bare(spec: ModelSpec, with_rival: bool = False) -> tuple[list[str], list[str], float]:
    """Return the lines that fail, the others worth a look, and the seconds that the checks took."""
    import bare
    import rival

    module, inputs = example_of(spec)
    outcome = bare.check(module, inputs)
    failed = [f"failed {name}: {message}" for name, message in outcome.failed.items()]
    others = [f"warned {name}: {message}" for name, message in outcome.warned.items()]
    if with_rival:
        others += [f"pytest-torch fails {name}" for name in rival.caught(module, inputs)]
    return failed, others, outcome.seconds


def run_bare(pattern: str, with_rival: bool) -> None:
    """Check the models that match, each in a process of its own: one that hangs or dies stops no other."""
    failed = alarms = 0
    seconds = []
    for name, spec in models():
        if not fnmatch.fnmatch(name, pattern):
            continue
        faults, others, took = _in_process(spec, with_rival)
        print(f"{name:40} {took:5.1f} s", *faults, *others, sep="\n    ", flush=True)
        failed += bool(faults)
        alarms += any(line.startswith("pytest-torch") for line in others)
        seconds.append(took)
    ninth = sorted(seconds)[int(0.9 * (len(seconds) - 1))]
    print(f"{failed} of {len(seconds)} models fail", end="")
    print(f", {alarms} by pytest-torch" if with_rival else "", end="")
    print(f"; median {statistics.median(seconds):.1f} s, 9 in 10 within {ninth:.1f} s")


def _in_process(spec: ModelSpec, with_rival: bool) -> tuple[list[str], list[str], float]:
    context = multiprocessing.get_context("fork")  # the libraries take long to import
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(check_bare(spec, with_rival))
        except Exception as error:
            sender.send(([f"{type(error).__name__}: {error}"], [], 0.0))

    process = context.Process(target=run)
    process.start()
    sender.close()
    try:
        if receiver.poll(TIME_LIMIT):
            result: tuple[list[str], list[str], float] = receiver.recv()
            return result
        return [f"not finished after {TIME_LIMIT} s"], [], float(TIME_LIMIT)
    except EOFError:
        return ["the process died"], [], 0.0
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Run every check on every model, or the default ones on bare modules."""
    warnings.simplefilter("ignore")
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    pattern = next((word for word in sys.argv[1:] if word not in options), "*")
    if "--bare" in options:
        run_bare(pattern, "--rival" in options)
    else:
        run_declared(pattern, "--full" in options)


def run_declared(pattern: str, full: bool) -> None:
    """Check the models that match, by their declarations."""
    count = failed = 0
    for name, spec in models():
        if not fnmatch.fnmatch(name, pattern):
            continue
        start = time.process_time()
        try:
            report = nnkit.smoke_run(spec, full=full)
        except nnkit.NnkitError as error:
            print(f"{name}: can't be built: {error}", flush=True)
            continue
        count += 1
        told = [check for check in report.checks if check.status in ("failed", "warned")]
        failed += sum(check.status == "failed" for check in told)
        print(f"{name:40} {time.process_time() - start:5.1f} s", flush=True)
        for check in told:
            print(f"    {check.status} {check.name}: {check.message}", flush=True)
    print(f"{failed} lines failed on {count} models")


if __name__ == "__main__":
    main()

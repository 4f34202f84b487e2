"""Ten networks of a stranger's plugin, declared in their natural signatures: what every verb makes of them."""

import importlib
import json
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.authoring.conformance import running
from nnkit.authoring.conformance.suite import ARCHITECTURE_CHECKS, NotApplicable, meet
from nnkit.cli.help import summary_help
from nnkit.contract.spec import make_spec
from nnkit.host.configuration import configure
from nnkit.models.running import call
from nnkit.models.sampling import sample_inputs
from nnkit.verbs.core_handlers import make_manager

STUDIO = ROOT / "tests" / "distributions" / "nnkit-studio"
NETWORKS = (
    "unet",
    "transformer",
    "vae",
    "diffusion-unet",
    "detector",
    "gpt",
    "siamese",
    "mixture-of-experts",
    "wavenet",
    "gan",
)
OPTIONAL = {
    "transformer": ("source_mask", "target_mask"),
    "diffusion-unet": ("label",),
    "gpt": ("cache", "mask"),
    "mixture-of-experts": ("mask",),
    "wavenet": ("speaker",),
}
LEFT_OUT = [(name, OPTIONAL.get(name, ())) for name in NETWORKS]
CHECKS = {check.name: check for check in ARCHITECTURE_CHECKS}


@pytest.fixture(scope="module")
def manager():
    """The plugins that are installed, and the studio."""
    sys.path.insert(0, str(STUDIO))
    importlib.invalidate_caches()
    yield make_manager([EntryPoint("studio", "nnkit_studio.plugin", "nnkit")], configure({}))
    sys.path.remove(str(STUDIO))
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnkit_studio"]:
        del sys.modules[name]


@pytest.fixture
def spec_of(manager):
    def make(name, **options):
        plugin, architecture = manager.find(name)
        return make_spec(architecture, plugin, options=options)

    return make


def candidate_of(manager, name):
    return running.candidates(manager, summary_help, f"studio/{name}")[-1]


def test_it_loads_and_every_network_is_small_and_no_wrapper(manager):
    assert manager.failures == []
    assert set(manager.plugins["studio"].architectures) == set(NETWORKS)
    classes = {name: candidate_of(manager, name).architecture.build.partition(":")[2] for name in NETWORKS}
    for name in NETWORKS:
        module = nnkit.build(candidate_of(manager, name).spec, manager=manager)
        assert type(module).__name__ == classes[name]
        assert sum(parameter.numel() for parameter in module.parameters()) < 1_000_000


@pytest.mark.parametrize("name", NETWORKS)
def test_the_declaration_honors_the_contract(manager, name):
    for check in ("config", "help", "meta", "signature", "bounds"):
        assert meet(CHECKS[check], candidate_of(manager, name))


@pytest.mark.parametrize(("name", "without"), [*LEFT_OUT, *((name, ()) for name in OPTIONAL)])
def test_parameters_and_multiply_adds_are_those_that_torch_counts(manager, spec_of, name, without):
    given = [unit for unit in OPTIONAL.get(name, ()) if unit not in without]
    spec = spec_of(name, batch=2, without=without, with_=given)
    totals = nnkit.summarize(spec, manager=manager).totals
    module = nnkit.build(spec, manager=manager)
    with FlopCounterMode(display=False) as counter:
        call(module, spec.signature, sample_inputs(spec))
    # Torch leaves out products with a vector: of spectral normalization, uᵀ (W v) for 8×16, 16×128 and 1×256,
    # once for the drawn picture and once for the real one.
    of_vectors = 2 * (8 * 16 + 8 + 16 * 128 + 16 + 256 + 1) if name == "gan" else 0
    assert totals.macs == counter.get_total_flops() // 2 + of_vectors
    assert totals.parameters == sum(parameter.numel() for parameter in module.parameters())


def test_gpt_by_hand(manager, spec_of):
    """V·D + C·D + L (12 D² + 13 D) + 2 D parameters, D² products a token and matrix, and two with the cache."""
    V, C, D, L, T, P = 128, 64, 32, 2, 6, 10
    totals = nnkit.summarize(spec_of("gpt"), manager=manager).totals
    assert totals.parameters == V * D + C * D + L * (12 * D * D + 13 * D) + 2 * D
    assert totals.macs == T * (L * 12 * D * D + V * D) + L * 2 * T * (P + T) * D


def test_mixture_of_experts_by_hand(manager, spec_of):
    """Each token costs its gate, two experts of two matrices, and their weighted sum: not all four experts."""
    D, H, E, K, L, tokens = 16, 32, 4, 2, 2, 10
    totals = nnkit.summarize(spec_of("mixture-of-experts"), manager=manager).totals
    assert totals.macs == L * tokens * (D * E + K * 2 * H * D + K * D)


def test_info_and_options_name_what_is_declared(manager, spec_of):
    spec = spec_of("gpt", time=20, past=44)
    assert spec.optional_inputs == ("cache", "mask")
    assert spec.dims["past"].max == 63
    with pytest.raises(nnkit.NnkitError, match="past \\+ time <= context doesn't hold"):
        spec_of("gpt", time=20, past=45)
    with pytest.raises(nnkit.NnkitError, match="width must be a multiple of heads, got 32 and 5"):
        spec_of("gpt", heads=5)
    assert spec_of("unet", levels=5).dims["height"].multiple_of == 32


def test_a_cache_makes_no_difference(manager, spec_of):
    """Six tokens at once give the scores that two and four give, with the cache in between."""
    module = nnkit.build(spec_of("gpt"), manager=manager)
    tokens = torch.randint(0, 128, (3, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = module(tokens)
        first = module(tokens[:, :2])
        second = module(tokens[:, 2:], first.present)
    torch.testing.assert_close(torch.cat((first.scores, second.scores), dim=1), whole.scores)
    torch.testing.assert_close(second.present[1].value, whole.present[1].value)


def test_a_file_with_a_cache_is_proven_with_the_names_of_the_tree(manager, spec_of, tmp_path, monkeypatch):
    monkeypatch.setattr("nnkit.verbs.exporting.reach.SECONDS", 0.5)
    report = nnkit.export(spec_of("gpt", layers=1), tmp_path / "gpt.onnx", manager=manager)
    assert report.verified
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "gpt.onnx")
    shapes = {tensor.name: tensor.shape for tensor in (*session.get_inputs(), *session.get_outputs())}
    assert shapes["cache.0.key"] == ["batch", 4, "past", 8]
    assert list(shapes) == [
        "tokens", "cache.0.key", "cache.0.value", "scores", "present.0.key", "present.0.value",
    ]  # fmt: skip
    assert any(check.sizes["past"] == 0 for check in report.proof.checks)


def test_a_cache_that_is_passed_on_is_nothing_to_learn(manager, spec_of):
    """Most of what gpt returns is the cache it was given, which no weight changes; the loss is of the rest."""
    (check,) = nnkit.smoke_run(spec_of("gpt"), checks=["overfit"], manager=manager).checks
    assert check.status == "passed", check.message


# Slow: each verb on each network


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "pt2", "safetensors"])
@pytest.mark.parametrize(("name", "without"), [*LEFT_OUT, *((name, ()) for name in OPTIONAL)])
def test_every_file_is_proven_with_every_dim_free(manager, spec_of, tmp_path, name, without, format):
    given = [unit for unit in OPTIONAL.get(name, ()) if unit not in without]
    spec = spec_of(name, without=without, with_=given)
    report = nnkit.export(spec, tmp_path / f"net.{format}", format=format, manager=manager)
    assert report.verified
    if format != "safetensors":
        seen = {dim: {check.sizes[dim] for check in report.proof.checks} for dim in spec.dims}
        assert all(len(sizes) > 1 for sizes in seen.values()), seen
        # The gate of the experts draws noise only in training; nothing reads speakers where none is given.
        ready = ("gate.noise", "speaker") if "speaker" in without else ("gate.noise",)
        unused = report.proof.coverage.unused
        assert [name for name in unused if not any(word in name for word in ready)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_check_of_the_full_smoke_run_passes(manager, spec_of, name):
    report = nnkit.smoke_run(spec_of(name), full=True, manager=manager)
    found = {check.name: check.message for check in report.checks if check.status in ("failed", "warned")}
    assert found == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_conformance_suite_passes(manager, name):
    candidate = candidate_of(manager, name)
    for check in ARCHITECTURE_CHECKS:
        try:
            assert meet(check, candidate)
        except NotApplicable as reason:
            pytest.fail(f"{check.name} is skipped: {reason}")


@pytest.mark.slow
def test_an_installed_studio_serves_the_command_line(environment, tmp_path):
    env = environment(True)
    env.install(str(STUDIO))

    def run(*words):
        done = env.run("-m", "nnkit", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "10 architectures" in run("plugins")
    assert "past + time <= context" in run("info", "studio/gpt")
    assert json.loads(run("summary", "studio/siamese", "--json"))["totals"]["parameters"] == 1_953
    inputs = json.loads(run("summary", "studio/diffusion-unet", "--without", "label", "--json"))["inputs"]
    assert [tensor["name"] for tensor in inputs] == ["image", "timestep"]
    assert "verified" in run("export", "studio/wavenet", "--onnx", "--without", "speaker")
    assert "verified" in run("verify", "wavenet.onnx")
    assert "passed" in run("plugins", "check", "nnkit-studio", "--check", "signature")
    for name in NETWORKS:
        run("bench", f"studio/{name}", "--rounds", "1")

"""What lies in examples/ runs."""

import pytest
from conftest import ROOT, python

import nnkit

EXAMPLES = ROOT / "examples"


def test_the_tour_runs(tmp_path):
    done = python("-W", "error", str(EXAMPLES / "tour.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "25,557,032 parameters, 4,089,184,256 multiply-adds" in done.stdout
    assert "torch.Size([2, 10])" in done.stdout
    assert "passed gradients all 4 parameters" in done.stdout


@pytest.mark.parametrize(("name", "parameters"), [("resnet18-cifar10", 11_173_962), ("gcn-cora", 23_063)])
def test_the_spec_files_are_models(name, parameters):
    assert nnkit.summarize(str(EXAMPLES / "specs" / f"{name}.yaml")).totals.parameters == parameters


TOKENS = ["tokens: int64[batch, time=2048]"]


@pytest.mark.parametrize(
    ("name", "parameters", "width", "hidden", "layers"),
    [
        ("llama_8b", 8_030_261_248, 4096, 14_336, 32),
        ("llama_70b", 70_553_706_496, 8192, 28_672, 80),
        ("llama_405b", 405_853_388_800, 16_384, 53_248, 126),
    ],
)
def test_decoders_of_any_size_have_the_published_parameters(name, parameters, width, hidden, layers):
    from nnkit.models.references import look_up
    from nnkit.verbs.core_handlers import plugin_manager

    report = nnkit.summarize(look_up(f"{EXAMPLES}/llama.py:{name}", plugin_manager(), TOKENS).resolve())
    assert (report.totals.parameters, report.method) == (parameters, "meta")
    projections = 2 * width**2 + 2 * width * 8 * 128 + 3 * width * hidden
    attention = 2 * 2048 * width
    assert report.totals.macs == 2048 * (layers * (projections + attention) + 128_256 * width)


def test_405_billion_parameters_take_no_more_memory_than_a_few():
    reference = ["summary", f"{EXAMPLES}/llama.py:llama_405b", "--input", *TOKENS, "--json"]
    code = (
        "import re, pathlib, sys, io, contextlib\n"
        "from nnkit.cli.main import main\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()): main(sys.argv[1:])\n"
        "except SystemExit as ending:\n"
        "    print(ending.code, re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )
    code, peak = map(int, python("-c", code, *reference).stdout.split())
    assert code == 0
    assert peak * 1024 < 2**30

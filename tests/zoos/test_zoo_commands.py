"""Every command takes `prefix/name`. The models are timm's own test models, of some hundred thousand parameters."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nnkit.verbs.core_handlers import plugin_manager

NET = "timm/test_resnet"
OTHER = "timm/test_convnext"


def parameters_of(name, **options):
    model = timm.create_model(name.partition("/")[2], **options)
    return sum(parameter.numel() for parameter in model.parameters())


def test_list_of_a_zoo_and_of_what_matches_in_it(nnkit_command):
    listed = nnkit_command("list", "timm/").out.split()
    assert {word for word in listed if "/" in word} == {f"timm/{name}" for name in timm.list_models()}
    found = json.loads(nnkit_command("list", "timm/convnext*_tiny", "--json").out)
    expected = [f"timm/{name}" for name in timm.list_models("convnext*_tiny")]
    assert sorted(row["name"] for row in found["architectures"]) == expected
    (zoo,) = found["zoos"]
    assert (zoo["prefix"], zoo["version"], zoo["installed"]) == ("timm", version("timm"), True)
    assert (zoo["architectures"], zoo["matching"]) == (len(timm.list_models()), len(expected))


def test_list_names_each_zoo_in_a_line(nnkit_command):
    lines = nnkit_command("list").out.partition("\nzoos\n")[2].splitlines()
    counts = {line.split()[0]: line.split()[1] for line in lines}
    assert counts["timm/"] == f"{len(timm.list_models()):,}"
    assert counts.keys() == {"pyg/", "timm/", "torchvision/", "transformers/"}
    in_zoos = nnkit_command("list", "nfnet").out
    assert in_zoos.splitlines()[0] == "zoos"
    nfnets = {*timm.list_models("*nfnet*"), *timm.list_models(module="nfnet")}
    assert f"{len(nfnets)}  nnkit list timm/nfnet" in in_zoos


@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (["list", "timm/convnxt"], 2, "no architecture of timm/ matches 'convnxt'", "timm/convnext"),
        (["summary", "timm/convnext_tny"], 2, "unknown architecture 'timm/convnext_tny'", "timm/convnext_tiny"),
        (["summary", "convnextv2_tiny"], 2, "unknown architecture", "did you mean timm/convnextv2_tiny?"),
        (["smoke-run", "timm/convnxt*"], 2, "no architecture matches 'timm/convnxt*'", "timm/convnext"),
        (["smoke-run", NET, "timm/test_resnot"], 2, "unknown architecture 'timm/test_resnot'", "timm/test_resnet"),
        (["smoke-run", "timm/test_resn*", "--heigt", "96"], 2, "no", "height"),
        (["compare", NET, "timm/test_resnot"], 2, "unknown architecture 'timm/test_resnot'", "timm/test_resnet"),
        (["compare", NET, NET, "--set", "no_such_option=1"], 2, "no_such_option", ""),
    ],
)  # fmt: skip
def test_what_a_zoo_does_not_have_is_one_error(nnkit_command, args, code, message, hint):
    done = nnkit_command(*args)
    assert done.code == code, done
    error, advice = done.err.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert advice.startswith("hint: ")
    assert hint in advice


def test_info_and_the_file_of_a_spec(nnkit_command, tmp_path):
    assert nnkit_command("info", NET).out.startswith(f"{NET}: ")
    text = nnkit_command("build", NET, "--num-classes", "7", "--spec").out
    assert f"architecture: {NET}\n" in text
    Path("net.yaml").write_text(text)
    report = json.loads(nnkit_command("summary", "net.yaml", "--format", "json").out)
    assert report["totals"]["parameters"] == parameters_of(NET, num_classes=7)
    assert report["spec"]["architecture"] == NET


def test_compare_knows_the_options_of_a_zoo(nnkit_command):
    done = nnkit_command(
        "compare", NET, OTHER, "--num-classes", "7", "--right.in-chans", "1", "--set", "act_layer=silu",
        "--format", "json",
    )  # fmt: skip
    assert done.code == 0, done.err
    models = json.loads(done.out)["models"]
    assert [model["spec"]["architecture"] for model in models] == [NET, OTHER]
    assert [model["totals"]["parameters"] for model in models] == [
        parameters_of(NET, num_classes=7),
        parameters_of(OTHER, num_classes=7, in_chans=1),
    ]


@pytest.mark.slow
def test_bench_measures_what_a_zoo_has(nnkit_command):
    done = nnkit_command(
        "bench", NET, "--rounds", "1", "--no-training", "--height", "64", "--width", "64", "--format", "json"
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["models"][0]["spec"]["architecture"] == NET


def test_a_member_is_checked_as_an_architecture(nnkit_command):
    done = nnkit_command("plugins", "check", NET, "--check", "shapes")
    assert NET in done.out, done
    assert done.code == 0


@pytest.mark.slow
def test_a_sweep_of_a_pattern_in_a_zoo(nnkit_command, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "operators"))
    done = nnkit_command(
        "smoke-run", "timm/test_resn*", "--check", "finite", "--height", "64", "--width", "64", "--json"
    )
    assert done.code == 0, done
    (result,) = json.loads(done.out)["models"]
    assert (result["name"], result["status"]) == (NET, "passed")
    assert "--height 64 --width 64" in result["command"]


def test_a_sweep_of_everything_leaves_zoos_out():
    from nnkit.verbs.sweep.tasks import select

    names = select((), plugin_manager())
    assert names == list(plugin_manager().architectures())
    assert not any(map(plugin_manager().is_member, names))
    assert select(("timm/test_*", "lenet-1998"), plugin_manager())[1:] == [
        f"timm/{name}" for name in plugin_manager().members("timm") if name.startswith("test_")
    ]


def test_a_file_says_which_version_of_the_zoo_made_it(nnkit_command):
    assert nnkit_command("export", NET, "-o", "net.safetensors").code == 0
    with safe_open("net.safetensors", "pt") as file:
        stamp = json.loads(file.metadata()["nnkit"])
    assert stamp["versions"]["timm"] == version("timm")
    done = nnkit_command("summary", "net.safetensors")
    assert (done.code, done.err) == (0, "")
    stamp["versions"]["timm"] = "0.9.0"
    save_file(load_file("net.safetensors"), "old.safetensors", metadata={"nnkit": json.dumps(stamp)})
    done = nnkit_command("summary", "old.safetensors")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith("warning: old.safetensors was made with timm 0.9.0; ")
    assert version("timm") in line
    assert NET in line

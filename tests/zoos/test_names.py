"""The names of a zoo, read from its source, are those that the zoo lists when it is imported."""

import importlib
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from nnkit.contract.namespace import ZooName, members


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def names_of(zoo: str, folder: Path) -> list[ZooName]:
    names: Callable[[Path], Iterable[ZooName]] = importlib.import_module(f"nnkit_{zoo}.names").names
    return list(names(folder))


def listed_by_timm() -> dict[str, str]:
    import timm

    modules = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    assert modules.keys() == set(timm.list_models())
    return modules


def listed_by_torchvision() -> dict[str, str]:
    from torchvision.models import get_model_builder, list_models

    return {
        name: get_model_builder(name).__module__.removeprefix("torchvision.models.") for name in list_models()
    }


@pytest.mark.parametrize(
    ("zoo", "listed"), [("timm", listed_by_timm), ("torchvision", listed_by_torchvision)]
)
def test_names_and_families_are_those_that_the_zoo_registers(
    zoo: str, listed: Callable[[], dict[str, str]]
) -> None:
    names = names_of(zoo, folder_of(zoo))
    assert max(Counter(name for name, _ in names).values()) == 1
    assert members(names) == listed()


def test_types_of_transformers_are_those_with_a_base_model() -> None:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names = names_of("transformers", folder_of("transformers"))
    assert sorted(name for name, _ in names) == sorted(MODEL_MAPPING_NAMES)
    families = members(names)
    some = ["llama", "bert", "t5", "vit", "wav2vec2", "llava", "patchtst", "clip_vision_model"]
    assert [families[name] for name in some] == [
        "text generation", "text encoder", "text to text", "vision", "audio", "multimodal", "time series", "vision",
    ]  # fmt: skip


def test_mappings_of_transformers_are_those_of_its_module() -> None:
    from transformers.models.auto import modeling_auto

    from nnkit_transformers.names import read_mappings

    read = read_mappings(folder_of("transformers"))
    assert len(read) > 50
    assert read == {name: dict(getattr(modeling_auto, name)) for name in read}


def test_reading_names_imports_no_zoo_and_no_torch() -> None:
    script = (
        "import importlib, json, sys, pathlib\n"
        "for zoo, folder in json.loads(sys.argv[1]).items():\n"
        "    assert list(importlib.import_module(f'nnkit_{zoo}.names').names(pathlib.Path(folder)))\n"
        "print([name for name in sys.modules if name in ('torch', 'numpy', 'timm', 'torchvision', 'transformers')])"
    )
    folders = {zoo: str(folder_of(zoo)) for zoo in ("timm", "torchvision", "transformers")}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(folders)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


TIMM = '''
@register_model
def plain(pretrained=False): ...
@register_model
@deprecated(
    "long",
)
# a remark
def below_more_decorators(): ...

    @register_model
    def inside_something(): ...
"""
@register_modelling
def another_decorator(): ...
"""
def not_registered(): ...
'''

TORCHVISION = """
@register_model()
@handle_legacy_interface(
    weights=("pretrained", None),

    weights_backbone=("pretrained_backbone", None),
)
def by_function(*, weights=None): ...
@register_model(name="by_keyword")
def other(): ...
@register_model("by_position")
def another(): ...
def register_model(name=None): ...
"""


def test_decorators_of_several_lines(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "nets.py").write_text(TIMM)
    (models / "_builder.py").write_text("@register_model\ndef private(): ...\n")
    assert names_of("timm", tmp_path) == [("plain", "nets"), ("below_more_decorators", "nets")]
    (models / "nets.py").write_text(TORCHVISION)
    assert [name for name, _ in names_of("torchvision", tmp_path)] == [
        "by_function",
        "by_keyword",
        "by_position",
    ]

"""A stranger's `.pt2`: nothing in it is unpickled, evaluated, executed or imported, whatever it tries."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import nnkit
from nnkit.errors import NnkitError
from nnkit.verbs.exporting import pt2

MODEL = "archive/models/model.json"
SAMPLES = "archive/data/sample_inputs/model.pt"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return Path.touch, (self.flag,)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What torch writes for a small module with a size that varies."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.tied = nn.Linear(3, 2)
            self.tied.weight = self.linear.weight
            self.register_buffer("scale", torch.tensor([2.0, 3.0]))

        def forward(self, x):
            return (self.linear(x) + self.tied(x)) * self.scale + x.shape[0]

    file = tmp_path_factory.mktemp("pt2") / "good.pt2"
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Net(), (torch.ones(4, 3),), dynamic_shapes=dynamic), file)
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].partition("/")[0]
        return {f"archive{name.removeprefix(root)}": archive.read(name) for name in archive.namelist()}


@pytest.fixture
def rewritten(members, tmp_path):
    """Write the archive again with other members."""

    def write(compression=zipfile.ZIP_STORED, **other: object):
        file = tmp_path / "their.pt2"
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in {**members, **other.pop("members", {})}.items():
                archive.writestr(name, content)
        return file

    return write


def changed(members, name, change):
    """Return a member of JSON after a change to it."""
    content = json.loads(members[name])
    change(content)
    return {name: json.dumps(content)}


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def refused(file, flag=None):
    with pytest.raises(NnkitError, match="was not opened"):
        pt2.run(file)
    with pytest.raises(NnkitError, match="was not opened"):
        pt2.weights(file)
    assert flag is None or not flag.exists()


def test_an_honest_program_is_read_as_torch_reads_it(members, rewritten):
    file = rewritten()
    theirs = torch.export.load(file)
    for name, tensor in theirs.state_dict.items():
        assert torch.equal(pt2.weights(file)[name], tensor)
    for size in (2, 4, 9):
        x = torch.randn(size, 3)
        assert torch.equal(pt2.run(file)((x,))[0], theirs.module()(x))


def test_its_guards_are_kept(members, rewritten):
    guard = changed(members, MODEL, lambda d: d.update(guards_code=["L['x'].size()[0] <= 5"]))
    call = pt2.run(rewritten(members=guard))
    assert call((torch.ones(5, 3),))[0].shape == (5, 2)
    with pytest.raises(AssertionError, match="Guard failed"):
        call((torch.ones(6, 3),))


@pytest.mark.parametrize("how", [pickle.dumps, pickled])
@pytest.mark.parametrize(
    "name", [SAMPLES, "archive/data/weights/model.pt", "archive/data/constants/model.pt"]
)
def test_pickled_code_is_not_run(rewritten, tmp_path, name, how):
    flag = tmp_path / "flag"
    refused(rewritten(members={name: how(Touch(flag))}), flag)


@pytest.mark.parametrize("kind", ["tensor_0", "opaque_obj_0", "custom_obj_0"])
def test_pickled_constants_are_not_read(members, rewritten, tmp_path, kind):
    flag = tmp_path / "flag"
    entry = {"path_name": kind, "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = changed(members, CONSTANTS, lambda d: d["config"].update(theirs=entry))
    refused(rewritten(members={**config, f"archive/data/constants/{kind}": pickle.dumps(Touch(flag))}), flag)


def test_pickled_weights_are_not_read(members, rewritten, tmp_path):
    flag = tmp_path / "flag"
    config = changed(members, WEIGHTS, lambda d: d["config"]["linear.weight"].update(use_pickle=True))
    refused(rewritten(members={**config, "archive/data/weights/weight_0": pickled(Touch(flag))}), flag)


def test_the_older_format_of_torch_is_not_unpickled(tmp_path):
    flag, file = tmp_path / "flag", tmp_path / "old.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickle.dumps(Touch(flag)))
    refused(file, flag)


@pytest.mark.parametrize(
    "name",
    ["archive/data/aotinductor/model/a.so", "archive/data/executorch/a", "archive/models/other.json",
     "archive/data/sample_inputs/other.pt"],
)  # fmt: skip
def test_what_is_no_graph_and_no_tensor_is_refused(rewritten, name):
    refused(rewritten(members={name: b"\x7fELF"}))


CALL = "__import__('pathlib').Path('FLAG').touch()"


@pytest.mark.parametrize("expression", [
    CALL, f"[{CALL}]", "Symbol('s0').__class__", "9**9**9**9", "PowByNatural(9, 10000000000)", "Pow(Integer(9), Integer(99999999))",
    f"Symbol('s0', positive={CALL})", "(lambda: 1)()", "open('FLAG', 'w')", "factorial(Integer(99999999))",
    "Integer('1')", "Function('f')(1)", "S('1')",
])  # fmt: skip
def test_expressions_of_sizes_run_no_code(members, rewritten, tmp_path, expression):
    flag = tmp_path / "flag"
    text = expression.replace("FLAG", str(flag))

    def change(program):
        values = program["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0]["as_expr"]["expr_str"] = text

    refused(rewritten(members=changed(members, MODEL, change)), flag)
    guard = changed(members, MODEL, lambda d: d.update(guards_code=[text]))
    refused(rewritten(members=guard), flag)


@pytest.mark.parametrize("target", [
    "torch.os.system", "torch.ops.load_library", "torch.load", "torch.hub.load", "torch.ops.aten.save.default",
    "torch.ops.aten.from_file.default", "_operator.methodcaller", "_operator.call", "math.sys.exit", "#ext:op",
    "torch.ops.higher_order.inline_asm_elementwise", "torch.ops.aten.__class__.mro", "torch.ops.inductor.x.default",
])  # fmt: skip
def test_only_operators_on_tensors_are_called(members, rewritten, target):
    def change(program):
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    refused(rewritten(members=changed(members, MODEL, change)))


def test_names_can_t_become_code(members, rewritten, tmp_path):
    flag = tmp_path / "flag"
    code = f"x=__import__('pathlib').Path('{flag}').touch()"
    renamed = members[MODEL].replace(b'"name": "x"', json.dumps({"name": code})[1:-1].encode())
    assert renamed != members[MODEL]
    refused(rewritten(members={MODEL: renamed}), flag)

    def change(program):
        program["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [code]

    refused(rewritten(members=changed(members, MODEL, change)), flag)
    refused(rewritten(members={SAMPLES: pickled(((), {code: torch.ones(1)}))}), flag)


@pytest.mark.parametrize("tree", [
    {"type": "collections.defaultdict", "children_spec": [],
     "context": {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}},
    {"type": "builtins.dict", "children_spec": [],
     "context": '{"__enum__": true, "fqn": "antigravity:X", "name": "x"}'},
    {"type": "builtins.dict", "children_spec": [], "context": '["x=exec(1)"]'},
])  # fmt: skip
def test_the_structure_of_outputs_imports_nothing(members, rewritten, tree):
    def change(program):
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, tree])

    refused(rewritten(members=changed(members, MODEL, change)))


def test_members_that_two_readers_see_differently_are_refused(members, rewritten, tmp_path):
    flag = tmp_path / "flag"
    evil = pickle.dumps(Touch(flag))
    for name in (SAMPLES.upper().replace("ARCHIVE", "archive"), f"other{SAMPLES.removeprefix('archive')}"):
        refused(rewritten(members={name: evil}), flag)
    file = rewritten()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr(SAMPLES, evil)
    refused(file, flag)


def test_small_files_stay_small(members, rewritten):
    refused(rewritten(zipfile.ZIP_DEFLATED))

    def claim(config):
        config["config"]["linear.weight"]["tensor_meta"]["sizes"] = [{"as_int": 2**40}]

    claimed = changed(members, WEIGHTS, claim)
    refused(rewritten(members={**claimed, "archive/data/weights/weight_0": b""}))
    refused(rewritten(members={MODEL: "[" * 100_000 + "]" * 100_000}))
    deep = {"guards_code": ["(" * 300 + "1" + ")" * 300]}
    refused(rewritten(members=changed(members, MODEL, lambda program: program.update(deep))))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    refused(rewritten(members={SAMPLES: inner.getvalue()}))


def test_verify_says_so_in_one_error(tmp_path, rewritten):
    flag = tmp_path / "flag"
    file = rewritten(members={SAMPLES: pickle.dumps(Touch(flag))})
    with pytest.raises(NnkitError, match="hold more than tensors") as caught:
        nnkit.verify(file, nnkit.resolve("simple-cnn"), named=True)
    assert caught.value.hint
    assert not flag.exists()

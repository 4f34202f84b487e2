"""The graph in an ONNX file, in the modules that nnkit writes into it."""

from collections import Counter

import onnx
import pytest
from onnx import TensorProto, helper

import nnkit
from nnkit.errors import NnkitError, UsageProblem


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "resnet.onnx"
    nnkit.export("resnet18", path, verify=False, height=64, width=64)
    return path


def test_a_file_of_ours_has_the_modules_of_the_model(exported):
    file, model = nnkit.graph(exported), nnkit.graph("resnet18")
    assert (file.source, file.spec.name, file.title) == ("onnx", "vision/resnet18", "resnet.onnx")
    modules = [(node.path, node.type) for node in file.nodes if node.kind == "module"]
    assert modules == [(node.path, node.type) for node in model.nodes if node.kind == "module"]


def test_the_edges_are_those_of_the_model(exported):
    file, model = nnkit.graph(exported), nnkit.graph("resnet18")

    def edges(report):
        return {
            (report.nodes[edge.source].path, report.nodes[edge.target].path)
            for edge in report.edges
            if all(report.nodes[end].kind == "module" for end in (edge.source, edge.target))
        }

    assert edges(file) == edges(model)
    assert file.nodes[0].axes == (("batch", 3, "height", "width"),)


def test_no_path_of_this_machine_is_in_the_file(exported):
    props = {entry.value for node in onnx.load(exported).graph.node for entry in node.metadata_props}
    assert ": ResNet/layer1: Sequential/layer1.0: BasicBlock/layer1.0.conv1: Conv2d" in props
    assert not any(".py" in text or "torch" in text for text in props)


def save(path, nodes, initializers=()):
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])  # noqa: E731
    graph = helper.make_graph(nodes, "theirs", [value("x")], [value("y")], initializer=initializers)
    onnx.save(helper.make_model(graph), path)
    return path


def test_a_file_of_someone_else_has_its_nodes(tmp_path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4)
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    ]
    report = nnkit.graph(save(tmp_path / "theirs.onnx", nodes, [weight]))
    keys = [node.key for node in report.nodes]
    assert keys == ["x", "", "relu", "mul", "add", "y"]
    assert report.nodes[3].reads == ("w",)
    assert report.nodes[1].row.parameters == 4
    edges = [f"{keys[edge.source]}>{keys[edge.target]}" for edge in report.edges]
    assert sorted(edges) == ["add>y", "mul>add", "relu>mul", "x>add", "x>relu"]
    assert report.spec is None
    assert nnkit.graph(str(tmp_path / "theirs.onnx")) == report


def test_the_name_of_a_file_of_ours_is_its_model_and_a_path_takes_no_options(tmp_path):
    path = tmp_path / "ours.onnx"
    nnkit.export("simple-cnn", path, verify=False)
    assert nnkit.graph(str(path)).source == "model"
    assert nnkit.graph(str(path), batch=2).sizes["batch"] == 2
    assert nnkit.graph(path).source == "onnx"
    with pytest.raises(UsageProblem, match=r"the nodes of ours\.onnx take no inputs"):
        nnkit.graph(path, batch=2)


def test_what_a_branch_takes_from_outside_flows_into_it(tmp_path):
    def branch(operator):
        out = helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["a"], [operator])], operator, [], [out])

    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [1])),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch("Abs"), else_branch=branch("Neg")),
    ]
    report = nnkit.graph(save(tmp_path / "if.onnx", nodes))
    paths = [node.path for node in report.nodes]
    edges = Counter(f"{paths[edge.source]}>{paths[edge.target]}" for edge in report.edges)
    assert edges == Counter(["x>relu", "relu>if", "constant>if", "if>y"])
    assert next(node for node in report.nodes if node.path == "constant").kind == "constant"


def test_a_damaged_file_is_an_error(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(NnkitError, match=r"bad\.onnx"):
        nnkit.graph(tmp_path / "bad.onnx")

"""Declares the format to nnkit. Imports neither torch nor OpenVINO."""

from nnkit import Exporter, hookimpl

NNKIT_PLUGIN_API = "1.0"


@hookimpl
def nnkit_exporters() -> list[Exporter]:
    """Declare the format."""
    return [
        Exporter(
            name="openvino",
            suffix=".xml",
            summary="OpenVINO IR: the graph in .xml, the weights in .bin",
            write="nnkit_openvino.openvino_ir:write",
            run="nnkit_openvino.openvino_ir:run",
            requires={"openvino": "pip install openvino"},
        )
    ]

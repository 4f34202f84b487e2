"""Checks of what a plugin declares. Torch-free."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

from nnkit.authoring.conformance.candidate import ArchitectureCandidate, Candidate
from nnkit.authoring.conformance.suite import Doubtful, Unmet
from nnkit.contract.architecture import Architecture
from nnkit.contract.config import as_text, config_values, make_config, options_of
from nnkit.contract.declarations import behavior_problem, inputs_problem
from nnkit.contract.hooks import COLLECTING_HOOKS
from nnkit.contract.spec import check_spec_data, make_spec
from nnkit.contract.text import plural
from nnkit.models.references import Reference

HEAVY = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime")
BUDGET = 100  # modules that a plugin may import beyond nnkit's own; the base zoo's import 3 to 10
SECONDS = 60

PROBE = """
import contextlib, json, sys
from importlib.metadata import EntryPoint
import nnkit.host.plugin_manager
before = set(sys.modules)
with contextlib.redirect_stdout(sys.stderr):
    module = EntryPoint("plugin", sys.argv[1], "nnkit").load()
    for hook in sys.argv[2:]:
        [getattr(each, "config", None) for each in getattr(module, hook, list)()]
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imports(candidate: Candidate) -> str:
    """The plugin loads without an error, and its module imports neither torch nor many other modules."""
    plugin, host = candidate.plugin, candidate.host
    if failures := [failure for failure in host.failures if failure.plugin == plugin.name]:
        raise Unmet(
            "; ".join(f"failed at {failure.stage}: {failure.message}" for failure in failures),
            "nnkit plugins -v",
        )
    modules = _list_imports(plugin.module)
    packages = Counter(name.partition(".")[0] for name in modules)
    if heavy := [name for name in HEAVY if name in packages]:
        raise Unmet(f"{plugin.module} imports {', '.join(heavy)}, which slows down every command")
    if len(modules) > BUDGET:
        largest = packages.most_common(1)[0][0]
        raise Unmet(
            f"{plugin.module} imports {len(modules)} modules, more than {BUDGET}; most belong to {largest}"
        )
    if deprecations := [used.message for used in host.deprecations if used.plugin == plugin.name]:
        raise Doubtful("; ".join(deprecations))
    return f"{len(modules)} modules (limit {BUDGET}), none of them {', '.join(HEAVY[:3])}"


def _list_imports(module: str) -> list[str]:
    """Return the modules that a fresh process imports to load a plugin and read all that it declares."""
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.run(
        [sys.executable, "-c", PROBE, module, *COLLECTING_HOOKS],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if process.returncode:
        lines = process.stderr.splitlines()
        raise Unmet(f"{module} can't be imported on its own: {lines[-1] if lines else 'no reason given'}")
    names: list[str] = json.loads(process.stdout)
    return names


def config(candidate: ArchitectureCandidate) -> str:
    """Every option survives JSON, YAML and the command line; defaults and presets are valid."""
    architecture, spec = candidate.architecture, candidate.spec
    _check_frozen(spec.config)
    for preset in (None, *architecture.presets):
        _check_declaration(architecture, make_spec(architecture, candidate.plugin.name, preset=preset).config)
    values = config_values(spec.config)
    make_config(architecture.config, values)
    for option in options_of(architecture.config):
        value = getattr(spec.config, option.name)
        read = getattr(make_config(architecture.config, {option.name: as_text(value)}), option.name)
        if read != value:
            raise Unmet(
                f"{option.flag} {as_text(value)} on a command line is read as {read!r}, not as {value!r}"
            )
    for preset in (None, *architecture.presets):
        _check_round_trip(candidate, preset)
    what = f"{plural(len(values), 'option')}, {plural(len(architecture.presets), 'preset')}"
    return f"{what}, through JSON, YAML and the command line"


def _check_frozen(config: Any) -> None:
    if not type(config).__dataclass_params__.frozen:
        raise Unmet(
            f"{type(config).__name__} can be changed", "declare it @dataclass(frozen=True, kw_only=True)"
        )


def _check_declaration(architecture: Architecture, config: Any) -> None:
    """Check the tensors that depend on the config as others are when the plugin is loaded."""
    inputs = architecture.inputs_for(config)
    names = {tensor.name for tensor in inputs}
    static = replace(
        architecture,
        inputs=inputs,
        padding=tuple(name for name in architecture.padding if name in names),
        outputs=architecture.outputs_for(config),
        constants=architecture.constants_for(config),
    )
    if problem := inputs_problem(static) or behavior_problem(static):
        raise Unmet(f"its declaration can't be right: {problem}", "correct it; see docs/plugins.md")


def _check_round_trip(candidate: ArchitectureCandidate, preset: str | None) -> None:
    import yaml

    spec = make_spec(candidate.architecture, candidate.plugin.name, preset=preset)
    data = spec.to_dict()
    copies = {"JSON": json.loads(json.dumps(data)), "YAML": yaml.safe_load(spec.to_yaml())}
    for form, copy in copies.items():
        base = check_spec_data(copy, form)
        again = make_spec(candidate.architecture, candidate.plugin.name, base=base)
        if again != spec:
            changed = [key for key, value in again.to_dict().items() if value != data[key]]
            what = f"preset {preset}" if preset else "the default"
            raise Unmet(f"{what} changes in {form}: {', '.join(changed) or 'its config'}")


def help_text(candidate: ArchitectureCandidate) -> str:
    """`nnkit summary ARCH --help` explains every option, dim and preset."""
    architecture = candidate.architecture
    if not architecture.summary or "\n" in architecture.summary:
        raise Unmet("its summary is not one line", "describe it in one line: Architecture(summary=…)")
    options = options_of(architecture.config)
    dims = {f"--{name.replace('_', '-')}": dim.description for name, dim in architecture.dims.items()}
    explained = {**{option.flag: option.description for option in options}, **dims}
    if unexplained := [flag for flag, description in explained.items() if not description]:
        raise Unmet(f"the help text doesn't explain {', '.join(unexplained)}")
    text = candidate.help_of(Reference(architecture, candidate.plugin.name))
    if missing := [flag for flag in explained if flag not in text]:
        raise Unmet(f"the help text lacks {', '.join(missing)}")
    presets = plural(len(architecture.presets), "preset")
    return f"{plural(len(options), 'option')}, {plural(len(dims), 'dim')} and {presets} explained"

"""Checks of what a plugin declares, all of them without torch."""

import json
import os
import subprocess
import sys
from typing import Any

from nnkit.authoring.conformance.candidate import ArchitectureCandidate, Candidate
from nnkit.authoring.conformance.suite import Doubtful, Unmet
from nnkit.contract.config import as_text, config_values, make_config, options_of
from nnkit.contract.hooks import COLLECTING_HOOKS
from nnkit.contract.spec import check_spec_data, make_spec
from nnkit.contract.text import plural
from nnkit.models.references import Reference

HEAVY = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime")
BUDGET = 100  # modules that a plugin may import beyond nnkit's own; those of the base zoo import 3 to 10
SECONDS = 60

PROBE = """
import contextlib, json, sys
from importlib.metadata import EntryPoint
import nnkit.host.plugin_manager
before = set(sys.modules)
with contextlib.redirect_stdout(sys.stderr):
    module = EntryPoint("plugin", sys.argv[1], "nnkit").load()
    for hook in sys.argv[2:]:
        list(getattr(module, hook, list)())
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imports(candidate: Candidate) -> str:
    """The plugin loads without a fault, and its module imports neither torch nor much else."""
    plugin, host = candidate.plugin, candidate.host
    if faults := [each for each in host.failures if each.plugin == plugin.name]:
        raise Unmet(
            "; ".join(f"failed at {each.stage}: {each.message}" for each in faults), "nnkit plugins -v"
        )
    modules = _imported_by(plugin.module)
    tops = {name.partition(".")[0] for name in modules}
    if heavy := [name for name in HEAVY if name in tops]:
        raise Unmet(f"{plugin.module} imports {', '.join(heavy)}, which slows down every command")
    if len(modules) > BUDGET:
        most = max(tops, key=lambda top: sum(name.partition(".")[0] == top for name in modules))
        raise Unmet(f"{plugin.module} imports {len(modules)} modules, {BUDGET} at most; most are of {most}")
    if old := [each.message for each in host.deprecations if each.plugin == plugin.name]:
        raise Doubtful("; ".join(old))
    return f"{len(modules)} modules of {BUDGET} at most, none of them {', '.join(HEAVY[:3])}"


def _imported_by(module: str) -> list[str]:
    """Return what a process of its own imports to load a plugin and to ask for all that it declares."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module, *COLLECTING_HOOKS],
        capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        raise Unmet(f"{module} can't be imported alone: {(done.stderr.splitlines() or ['no reason'])[-1]}")
    names: list[str] = json.loads(done.stdout)
    return names


def config(candidate: ArchitectureCandidate) -> str:
    """Every choice survives as JSON, as YAML and as typed; defaults and presets are valid."""
    architecture, spec = candidate.architecture, candidate.spec
    _check_frozen(spec.config)
    values = config_values(spec.config)
    make_config(architecture.config, values)
    for option in options_of(architecture.config):
        value = getattr(spec.config, option.name)
        read = getattr(make_config(architecture.config, {option.name: as_text(value)}), option.name)
        if read != value:
            raise Unmet(f"{option.flag} {as_text(value)}, typed, is read as {read!r}, not as {value!r}")
    for preset in (None, *architecture.presets):
        _check_round_trip(candidate, preset)
    what = f"{plural(len(values), 'option')}, {plural(len(architecture.presets), 'preset')}"
    return f"{what}, as JSON, as YAML and as typed"


def _check_frozen(config: Any) -> None:
    if not type(config).__dataclass_params__.frozen:
        raise Unmet(
            f"{type(config).__name__} can be changed", "declare it @dataclass(frozen=True, kw_only=True)"
        )


def _check_round_trip(candidate: ArchitectureCandidate, preset: str | None) -> None:
    import yaml

    spec = make_spec(candidate.architecture, candidate.plugin.name, preset=preset)
    data = spec.to_dict()
    for form, read in (("JSON", json.loads(json.dumps(data))), ("YAML", yaml.safe_load(spec.to_yaml()))):
        base = check_spec_data(read, form)
        again = make_spec(candidate.architecture, candidate.plugin.name, base=base)
        if again != spec:
            changed = [key for key, value in again.to_dict().items() if value != data[key]]
            what = f"preset {preset}" if preset else "the default"
            raise Unmet(f"{what} is another after {form}: {', '.join(changed) or 'its config'}")


def help_text(candidate: ArchitectureCandidate) -> str:
    """`nnkit summary ARCH --help` explains every option, dim and preset."""
    architecture = candidate.architecture
    if not architecture.summary or "\n" in architecture.summary:
        raise Unmet("its summary is not one line", "say in one line what it is: Architecture(summary=…)")
    options = options_of(architecture.config)
    dims = {f"--{name.replace('_', '-')}": dim.description for name, dim in architecture.dims.items()}
    explained = {**{option.flag: option.description for option in options}, **dims}
    if silent := [flag for flag, words in explained.items() if not words]:
        raise Unmet(f"the help text explains nothing of {', '.join(silent)}")
    text = candidate.help_of(Reference(architecture, candidate.plugin.name))
    if missing := [flag for flag in explained if flag not in text]:
        raise Unmet(f"the help text lacks {', '.join(missing)}")
    presets = plural(len(architecture.presets), "preset")
    return f"{plural(len(options), 'option')}, {plural(len(dims), 'dim')} and {presets} explained"

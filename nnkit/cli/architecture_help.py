"""An architecture's options, sizes and presets as lines of help: (what to type, what it means)."""

import click

from nnkit.contract.architecture import Architecture
from nnkit.contract.config import Option, as_text, options_of
from nnkit.contract.settings import SETTINGS
from nnkit.contract.spec import is_given, optional_inputs


def write_architecture(architecture: Architecture, formatter: click.HelpFormatter) -> None:
    """Write the architecture's options, sizes and presets under headings of their own."""
    sections = {
        f"Options of {architecture.name}": option_lines(architecture),
        f"Sizes of {architecture.name}": size_lines(architecture),
        f"Optional inputs of {architecture.name}": optional_lines(architecture),
        f"Presets of {architecture.name}": preset_lines(architecture),
    }
    for heading, lines in sections.items():
        if lines:
            with formatter.section(heading):
                formatter.write_dl(lines)


def option_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return a line for each config field."""
    return [_option_line(option) for option in options_of(architecture.config)]


def _option_line(option: Option) -> tuple[str, str]:
    if option.name == SETTINGS:
        return f"{option.flag} KEY=VALUE", option.description
    if option.is_flag:
        typed = f"{option.flag} / --no-{option.flag[2:]}"
        default = "yes" if option.default else "no"
    else:
        typed, default = f"{option.flag} {option.kind}", as_text(option.default)
    note = "required" if option.required else f"default: {default}"
    return typed, f"{option.description}  [{note}]".lstrip()


def size_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return a line for each dim, with the sizes that it can take."""
    defaults = architecture.dims_for(architecture.config())
    lines = []
    for name, dim in architecture.dims.items():
        default = defaults[name].default if name in defaults else dim.default
        least = dim.min if dim.depends_on else dim.resolve({}).least
        bounds = [f">= {least}"]
        if dim.max is not None:
            bounds.append(f"<= {dim.max}")
        if dim.multiple_of != 1:
            bounds.append(f"a multiple of {dim.multiple_of}")
        kind = f"integer {' and '.join(bounds)}"
        lines.append((f"{flag_of(name)} {kind}", f"{dim.description}  [default: {default}]".lstrip()))
    return lines


def optional_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return a line for each optional input under the default options."""
    given = {unit: is_given(architecture, unit) for unit in optional_inputs(architecture)}
    return [
        (f"--{'without' if each else 'with'} {unit}", "given by default" if each else "left out by default")
        for unit, each in given.items()
    ]


def preset_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return a line for each preset, with the values that it sets."""
    lines = []
    for name, preset in architecture.presets.items():
        settings = {**preset.config, **preset.sizes}
        values = " ".join(_typed(key, value) for key, value in settings.items())
        lines.append((f"--preset {name}", ": ".join(filter(None, (preset.description, values)))))
    return lines


def _typed(name: str, value: object) -> str:
    """Return an option and its value as they are typed: `--layers 2`, `--tied`, `--no-tied`."""
    if isinstance(value, bool):
        return flag_of(name if value else f"no_{name}")
    return f"{flag_of(name)} {as_text(value)}"


def flag_of(name: str) -> str:
    """Return a config field or dim as it is typed: `--num-classes`."""
    return "--" + name.replace("_", "-")

"""`nnkit list`."""

from collections.abc import Iterator, Mapping, Sequence

import click

from nnkit import __version__
from nnkit.cli.catalog import (
    CATALOG_SECTIONS,
    CatalogOptions,
    RefreshOptions,
    catalog_options,
    refresh_figures,
    show_figures,
)
from nnkit.cli.command import Command
from nnkit.cli.completers import complete_architecture
from nnkit.cli.installed import installed_plugins
from nnkit.cli.output import print_json, print_text, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.architecture import Architecture
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.zoos import Zoo, has_wildcard, matches, split_prefix, zoos
from nnkit.render.table import beside, terminal_width


@click.command("list", cls=Command, sections=CATALOG_SECTIONS)
@click.argument("pattern", required=False, default="", shell_complete=complete_architecture)
@report_format("text", "json", "csv")
@click.option("--no-cache", is_flag=True, help="Read the names of zoos anew.")
@catalog_options
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    pattern: str,
    format: str,
    no_cache: bool,
    chosen: CatalogOptions,
    refreshing: RefreshOptions,
) -> None:
    """List the installed architectures by family, and the zoos; or those that fit, with their figures.

    \b
    nnkit list
    nnkit list resnet
    nnkit list timm/
    nnkit list "timm/convnext*_tiny"
    nnkit list --json
    nnkit list --max-params 10M --max-macs 1G --input 224 --sort macs timm/

    PATTERN keeps the architectures whose name or family contains it. With * or ?, it must match the whole
    name.
    """
    settings = ctx.ensure_object(Settings)
    manager = installed_plugins(settings)
    if no_cache:
        manager.configuration = manager.configuration.with_flag("cache", "off", "--no-cache")
    if refreshing.refresh:
        found = refresh_figures(settings, manager, pattern, refreshing)
        if found and not chosen.typed:
            return
    else:
        refreshing.refuse()
    if (chosen.typed or format == "csv") and show_figures(settings, manager, pattern, chosen, format):
        return
    prefix, rest = split_prefix(pattern, manager.namespaces())
    if prefix:
        _list_zoo(manager, prefix, rest, format == "json")
    else:
        _list_declared(settings, manager, pattern, format == "json")


# The architectures that plugins declare


def _list_declared(settings: Settings, manager: PluginManager, pattern: str, as_json: bool) -> None:
    architectures = manager.architectures()
    matching = {
        full_name: architecture
        for full_name, architecture in architectures.items()
        if _matches(pattern, full_name, architecture.family)
    }
    counts = {zoo: _count_matches(manager, zoo, pattern) for zoo in zoos(manager)}
    if pattern and not matching and not any(counts.values()):
        raise UsageProblem(f"no architecture matches {pattern!r}", _suggestion(manager, pattern))
    shown = {zoo: count for zoo, count in counts.items() if count or not pattern}
    if as_json:
        rows = [_row(full_name, architecture) for full_name, architecture in matching.items()]
        _print_data(rows, [{**zoo.to_dict(), "matching": count} for zoo, count in shown.items()])
    else:
        width = terminal_width() if settings.on_terminal else None
        print_text("\n".join([*_lines(matching, width), *_zoo_lines(shown, pattern, width)]))


def _matches(pattern: str, full_name: str, family: str) -> bool:
    short = full_name.rpartition("/")[2]
    name = short if has_wildcard(pattern) and "/" not in pattern else full_name
    return matches(pattern, name, family)


def _count_matches(manager: PluginManager, zoo: Zoo, pattern: str) -> int:
    members = manager.known_members(zoo.prefix)
    if pattern.lower() in zoo.prefix:
        return len(members)
    return sum(matches(pattern, name, family) for name, family in members.items())


def _suggestion(manager: PluginManager, pattern: str) -> str:
    architectures = manager.architectures()
    names = {full_name.rpartition("/")[2] for full_name in architectures}
    families = {architecture.family.lower() for architecture in architectures.values()}
    prefixes = {f"{prefix}/" for prefix in manager.namespaces()}
    return did_you_mean(pattern.lower(), names | families | prefixes) or "list all architectures: nnkit list"


def _row(full_name: str, architecture: Architecture) -> dict[str, object]:
    return {
        "name": architecture.name,
        "plugin": full_name.rpartition("/")[0],
        "family": architecture.family,
        "summary": architecture.summary,
    }


def _lines(architectures: Mapping[str, Architecture], width: int | None) -> Iterator[str]:
    """Yield a line for each architecture, and one for each family above its members."""
    families: dict[str, list[tuple[str, str, str]]] = {}
    for full_name, architecture in architectures.items():
        row = (architecture.name, full_name.rpartition("/")[0], architecture.summary)
        families.setdefault(architecture.family, []).append(row)
    every = [row for rows in families.values() for row in rows]
    names, plugins = _widest(every, 0), _widest(every, 1)
    for family, rows in families.items():
        yield family
        for name, plugin, summary in rows:
            yield from beside(f"  {name:{names}}  {plugin:{plugins}}", summary, 6 + names + plugins, width)


def _zoo_lines(counts: Mapping[Zoo, int], pattern: str, width: int | None) -> Iterator[str]:
    """Yield a line for each zoo: what is in it, or how many of its architectures match."""
    rows = [
        (f"{zoo.prefix}/", f"{count:,}" if count else "-", _remark(zoo, pattern))
        for zoo, count in counts.items()
    ]
    names, numbers = _widest(rows, 0), _widest(rows, 1)
    if rows:
        yield "zoos"
    for name, number, remark in rows:
        yield from beside(f"  {name:{names}}  {number:>{numbers}}", remark, 6 + names + numbers, width)


def _widest(rows: Sequence[tuple[str, ...]], index: int) -> int:
    return max((len(row[index]) for row in rows), default=0)


def _remark(zoo: Zoo, pattern: str) -> str:
    """Return what the zoo is, why it can't be used, or how to list what matches."""
    if not pattern:
        return zoo.summary if zoo.installed and zoo.architectures else zoo.state
    rest = "" if pattern.lower() in zoo.prefix else pattern
    name = f"{zoo.prefix}/{rest}"
    return f"nnkit list {repr(name) if has_wildcard(name) else name}"


# The architectures of a zoo


def _list_zoo(manager: PluginManager, prefix: str, pattern: str, as_json: bool) -> None:
    zoo = next(zoo for zoo in zoos(manager) if zoo.prefix == prefix)
    members = manager.known_members(prefix) or manager.require_members(prefix, f"{prefix}/")
    matching = {name: family for name, family in members.items() if matches(pattern, name, family)}
    if not matching:
        near = did_you_mean(
            f"{prefix}/{pattern}", {f"{prefix}/{each}" for each in {*members, *members.values()}}
        )
        raise UsageProblem(
            f"no architecture of {prefix}/ matches {pattern!r}",
            near or f"list all of them: nnkit list {prefix}/",
        )
    if as_json:
        _print_data(
            [_member_row(zoo, name, family) for name, family in matching.items()],
            [{**zoo.to_dict(), "matching": len(matching)}],
        )
    else:
        print_text("\n".join(_members_lines(zoo, matching)))


def _member_row(zoo: Zoo, name: str, family: str) -> dict[str, object]:
    return {
        "name": f"{zoo.prefix}/{name}",
        "plugin": zoo.plugin,
        "family": family,
        "summary": "",
        "installed": zoo.installed,
    }


def _members_lines(zoo: Zoo, members: Mapping[str, str]) -> Iterator[str]:
    """Yield the names with a line for each family above its members, and why they can't be used."""
    families: dict[str, list[str]] = {}
    for name, family in members.items():
        families.setdefault(family or "other", []).append(f"  {zoo.prefix}/{name}")
    for family, lines in families.items():
        yield family
        yield from lines
    if not zoo.installed:
        yield f"{zoo.prefix}/ is {zoo.state}"


def _print_data(architectures: list[dict[str, object]], listed: list[dict[str, object]]) -> None:
    print_json(
        {"schema": "nnkit.list/1", "nnkit": __version__, "architectures": architectures, "zoos": listed}
    )

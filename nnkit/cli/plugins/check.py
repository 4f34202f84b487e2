"""`nnkit plugins check [NAME]`."""

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import VerificationFailed
from nnkit.verbs.core_handlers import plugin_manager


@click.command("check", cls=Command)
@click.argument("name", required=False)
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    metavar="ARCH",
    help="Check only this architecture (repeatable).",
)
@click.option("--check", "checks", multiple=True, metavar="CHECK", help="Run only this check (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print the report cards as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    name: str | None,
    architectures: tuple[str, ...],
    checks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a plugin against the conformance suite and print a report card.

    \b
    nnkit plugins check                      every plugin not part of nnkit
    nnkit plugins check mine                 a plugin, package or architecture
    nnkit plugins check mine --check onnx    only one check

    To run the same checks in pytest, subclass nnkit.testing.ArchitectureSuite.
    """
    from nnkit.authoring.conformance.rendering import as_text
    from nnkit.authoring.conformance.report import ConformanceReport
    from nnkit.authoring.conformance.running import candidates, checked, choose_checks
    from nnkit.cli.help import summary_help

    settings = ctx.ensure_object(Settings)
    chosen = candidates(plugin_manager(), summary_help, name, architectures)
    cards = []
    for card in checked(chosen, choose_checks(checks), settings.progress, settings.explain):
        cards.append(card)
        if not as_json:
            print_text(as_text(card, settings.use_color), settings.use_color)
    report = ConformanceReport(tuple(cards))
    if as_json:
        print_json(report.to_dict())
    results = [check for card in cards for check in card.checks]
    failed = [check for check in results if check.status == "failed"]
    if failed:
        raise VerificationFailed(
            f"{len(failed)} of {len(results)} checks failed", f"rerun one: {failed[0].repeat}"
        )

"""What ``crowdseg doctor`` found, for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crowdseg.diagnosis import Device, Diagnosis

NOT_SET = "-"


def diagnosis_view(diagnosis: Diagnosis) -> RenderableType:
    """Devices, checks, settings, versions, and how to get what is missing."""
    versions = " · ".join(f"{name} {version or 'missing'}" for name, version in diagnosis.versions.items())
    parts: list[RenderableType] = [
        _devices(diagnosis.devices),
        _checks(diagnosis.devices),
        _settings(diagnosis.settings),
        Text.assemble(("Versions: ", "bold"), versions),
        *(Text(f"• {sentence}") for sentence in diagnosis.advice),
    ]
    if not diagnosis.problems:
        parts.append(Text("Everything that is wanted works.", style="green"))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="cyan")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _devices(devices: list[Device]) -> Table:
    table = _table("Devices", "device", "model", "operators run", "kernels")
    for device in devices:
        table.add_row(*map(Text, (device.name, device.model, device.backend or NOT_SET, device.kernels)))
    return table


def _checks(devices: list[Device]) -> Table:
    """A row per operator, a column per device and backend."""
    columns = {f"{device.name} {backend}": found for device in devices for backend, found in device.checks.items()}
    table = _table("Operators, against the reference", "operator", *columns)
    for operator in next(iter(columns.values())):
        marks = ("[red]wrong[/]" if found[operator] else "[green]right[/]" for found in columns.values())
        table.add_row(operator, *marks)
    return table


def _settings(settings: dict[str, str | int | None]) -> Table:
    table = _table("Settings", "", "")
    table.show_header = False
    for name, value in settings.items():
        table.add_row(name, Text(NOT_SET if value is None else str(value)))
    return table

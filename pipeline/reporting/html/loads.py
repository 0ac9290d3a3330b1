"""Latency under load: what each system that was put under load carries, and what happens beyond."""

from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import MISSING, Table, amount, row


def capacities(material: Material) -> Table | None:
    """Tabulate the capacity of each system, beside the largest rate that was tried; None if none was put under load."""
    curves = material.tables.get("load")
    if curves is None:
        return None
    rows = []
    for system, curve in curves.groupby("system", sort=False):
        last = curve.iloc[-1]
        beyond = [amount(last[column]) for column in ("rate_per_s", "p50_ms", "p99_ms")]
        refused = f"{last['refused']:,}" if last["refused"] else MISSING
        rows.append(row(material.label(system), amount(last["queries_per_s_at_p99"]), *beyond, refused))
    limit = amount(curves["limit_ms"].iloc[0])
    columns = ["system", "queries/s", "highest rate tried", "p50 there (ms)", "p99 there (ms)", "refused there"]
    return Table(f"Queries per second within a p99 of {limit} ms", columns, rows)

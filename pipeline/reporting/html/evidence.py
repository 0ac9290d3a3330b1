"""What lets a reader trust or repeat the figures: failed runs, provenance, and published figures for comparison."""

import shlex
from pathlib import Path
from typing import Any

import yaml

from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Table, amount, listed, plain, row
from pipeline.store.progress import counted
from pipeline.values import UserError


def failures(material: Material) -> Table | None:
    """Tabulate the failed runs; None if there are none."""
    rows = [row(state.name, state.reason or "", f"{amount(state.seconds)} s") for state in material.failed]
    return Table("Failed runs", ["run", "reason", "after"], rows) if rows else None


def published() -> list[dict[str, Any]]:
    """Read the tables of published.yaml."""
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


def published_tables() -> list[Table]:
    """Tabulate the published figures."""
    tables = []
    for source in published():
        columns = list(source["rows"][0])
        rows = [row(*(str(entry[column]) for column in columns)) for entry in source["rows"]]
        tables.append(Table(f"Published: {source['source']}", columns, rows, labels=2))
    return tables


def overlay(material: Material) -> list[dict[str, Any]]:
    """Return the published accuracy and language bias on benchmarks of the sweep; no costs are published.

    Figures are comparable if they are of the main metric of the benchmark.
    """
    lines = []
    for source in published():
        benchmark = source.get("benchmark")
        if benchmark not in material.scales or source["metric"] != material.metrics[benchmark].name:
            continue
        for entry in source["rows"]:
            line = {
                "benchmark": benchmark,
                "bias": entry.get("rank distance"),
                "label": f"{entry['encoder']}, {entry['batches']}",
                "source": source["source"].split(",")[0],
            }
            lines += [line | {"setting": name, "accuracy": entry[name]} for name in SETTINGS if name in entry]
    return lines


def command(material: Material) -> str | None:
    """Return the command of the sweep's last multirun, from Hydra's own notes; None for single runs."""
    path = material.store.kept_dir(material.sweep) / "multirun.yaml"
    if not path.exists():
        return None
    words = ["python", "-m", "pipeline.run"]
    try:
        hydra = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]
        for source in hydra["runtime"]["config_sources"]:
            if source["provider"] == "command-line":
                words += ["--config-dir", Path(source["path"]).name]
        if hydra["job"]["config_name"] != "config":
            words += ["--config-name", hydra["job"]["config_name"]]
        return shlex.join([*words, "-m", *hydra["overrides"]["task"]])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not Hydra's note of a multirun: move it away.") from error


def provenance(material: Material) -> Table:
    """Tabulate when, where and from what the sweep was made."""
    records = list(material.all_records())
    sources = [record.provenance for record in records]
    times = sorted(source["time"] for source in sources)
    machines = {plain(profiled.profile.details["machine"]): None for profiled in material.profiles}
    versions = {plain(source["libraries"]): None for source in sources if "libraries" in source}
    facts = {
        "runs": f"{counted(len(records), 'run')} of {counted(len(material.records), 'system')}, "
        f"from {times[0]} to {times[-1]}",
        "command": command(material),
        "code": listed(dict.fromkeys(plain(source.get("commit")) for source in sources)),
        "seeds": listed(dict.fromkeys(str(record.seed) for record in records)),
        "trained and evaluated on": listed(dict.fromkeys(plain(source.get("device")) for source in sources)),
        "profiled on": " | ".join(machines),
        "libraries": " | ".join(versions),
        "python": listed(dict.fromkeys(plain(source.get("python")) for source in sources)),
    }
    for part in ("data", "eval"):
        facts[part] = " | ".join(dict.fromkeys(plain(source[part]) for source in sources if part in source))
    facts["notes"] = " ".join(dict.fromkeys(note for record in records for note in record.notes))
    return Table("Provenance", ["what", "value"], [row(key, text) for key, text in facts.items() if text])


def runs(material: Material) -> Table:
    """Tabulate every run."""
    rows = [
        row(
            record.name,
            material.label(system),
            str(record.seed),
            record.provenance["time"],
            plain(record.provenance.get("commit")),
            f"{amount(sum(record.stage_s.values()))} s",
        )
        for system, records in material.records.items()
        for record in records
    ]
    columns = ["run", "system", "seed", "finished", "commit", "duration"]
    return Table("All runs; the folder of a run holds its config and raw figures", columns, rows)

"""What lets a reader trust or repeat the figures: failures, provenance, and other people's figures."""

import shlex
from pathlib import Path
from typing import Any

import yaml

from pipeline.reporting.figure import SETTINGS
from pipeline.reporting.html.material import Material
from pipeline.reporting.html.show import Table, amount, listed, plain, row


def failures(material: Material) -> Table | None:
    rows = [row(cell.name, cell.reason or "", f"{amount(cell.seconds)} s") for cell in material.failed]
    return Table("Cells that failed", ["cell", "reason", "after"], rows) if rows else None


def published() -> list[dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())


def published_tables() -> list[Table]:
    found = []
    for table in published():
        columns = list(table["rows"][0])
        rows = [row(*(str(entry[column]) for column in columns)) for entry in table["rows"]]
        found.append(Table(f"Published: {table['source']}", columns, rows, labels=2))
    return found


def overlay(material: Material) -> list[dict[str, Any]]:
    """Published mAP, and language bias, on the sweep's own benchmarks; of their cost nothing is published."""
    return [
        {"benchmark": table["benchmark"], "setting": setting, "accuracy": entry[setting],
         "bias": entry.get("rank distance"), "label": f"{entry['encoder']}, {entry['batches']}",
         "source": table["source"].split(",")[0]}
        for table in published() if table["benchmark"] in material.scales
        for entry in table["rows"]
        for setting in SETTINGS if setting in entry
    ]  # fmt: skip


def command(material: Material) -> str | None:
    """What started the sweep's last multirun, from Hydra's own notes; None for runs started singly."""
    path = material.store.sweep_dir(material.sweep) / "multirun.yaml"
    if not path.exists():
        return None
    hydra = yaml.safe_load(path.read_text())["hydra"]
    words = ["python", "-m", "pipeline.run"]
    for source in hydra["runtime"]["config_sources"]:
        if source["provider"] == "command-line":
            words += ["--config-dir", Path(source["path"]).name]
    if hydra["job"]["config_name"] != "config":
        words += ["--config-name", hydra["job"]["config_name"]]
    return shlex.join([*words, "-m", *hydra["overrides"]["task"]])


def provenance(material: Material) -> Table:
    records = list(material.all_records())
    facts = [record.provenance for record in records]
    times = sorted(fact["time"] for fact in facts)
    machines = {plain(profiled.profile.details["machine"]): None for profiled in material.profiles}
    versions = {plain(fact["libraries"]): None for fact in facts if "libraries" in fact}
    told = {
        "runs": f"{len(records)} of {len(material.records)} variants, from {times[0]} to {times[-1]}",
        "command": command(material),
        "code": listed(dict.fromkeys(plain(fact.get("commit")) for fact in facts)),
        "seeds": listed(dict.fromkeys(str(record.seed) for record in records)),
        "trained and scored on": listed(dict.fromkeys(plain(fact.get("device")) for fact in facts)),
        "profiled on": " | ".join(machines),
        "libraries": " | ".join(versions),
        "python": listed(dict.fromkeys(plain(fact.get("python")) for fact in facts)),
    }
    for part in ("data", "eval"):
        told[part] = " | ".join(dict.fromkeys(plain(fact[part]) for fact in facts if part in fact))
    told["notes"] = " ".join(dict.fromkeys(note for record in records for note in record.notes))
    return Table("Where the figures come from", ["", ""], [row(key, text) for key, text in told.items() if text])


def runs(material: Material) -> Table:
    rows = [
        row(record.name, material.label(variant), str(record.seed), record.provenance["time"],
            plain(record.provenance.get("commit")), f"{amount(sum(record.stage_s.values()))} s")
        for variant, records in material.records.items() for record in records
    ]  # fmt: skip
    columns = ["run", "encoder", "seed", "finished", "commit", "took"]
    return Table("Every run; its folder holds config and raw figures", columns, rows)

"""Dollars and CO2: the example of docs/money.md, and how the command treats valid and impossible prices."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import records
from command import inside
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.analysis import money, tables
from pipeline.reporting import publish
from pipeline.store.results import ResultStore
from pipeline.values import UserError

ROOT = Path(__file__).parent.parent
PRICES = money.Prices("a rack", "imagined", "2026-01-01", 0.36, 0.25, 0.10, 400)
SCENARIO = money.Scenario(9_000_000, queries_per_day=120_000, reencodes_per_year=2, utilisation=0.5)
PROFILE = {
    "query_latency_p50_ms": 18.0,
    "passages_per_s": 50.0,
    "energy_j_per_1k_queries": 360.0,
    "energy_j_per_1k_passages": 200.0,
    "idle_power_w": 10.0,
    "index_bytes_per_passage": 1536.0,
}
STATED = {  # in docs/money.md
    "usd_per_1m_queries": "3.65 USD",
    "usd_to_encode_corpus": "18.25 USD",
    "usd_per_month_index": "1.3824 USD",
    "usd_per_month": "17.7466 USD",
    "kg_co2_to_encode_corpus": "0.4 kg CO2",
    "kg_co2_per_month": "0.3587 kg CO2",
}
UNDER_LOAD = {
    "usd_per_1m_queries": "1.0194 USD",
    "usd_per_month": "8.1450 USD",
    "kg_co2_per_month": "0.1802 kg CO2",
}


def bill(prices=PRICES, scenario=SCENARIO, **profile):
    return money.bill(pd.DataFrame([PROFILE | profile]), prices, scenario).iloc[0]


def report(*overrides, folder=ROOT / "conf"):
    """The typed options of a command line; `folder` may hold further sheets."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_object(compose("report", [f"hydra.searchpath=[file://{folder}]", *overrides]))


def test_the_example_worked_by_hand():
    figures = bill()
    text = (ROOT / "docs/money.md").read_text()
    assert set(figures.index) == set(STATED)
    for figure, stated in STATED.items():
        assert figures[figure] == pytest.approx(float(stated.split()[0]), abs=5e-5)
        assert f"**{stated}**" in text


def test_the_example_under_load():
    figures = bill(queries_per_s_at_p99=200.0, energy_j_per_1k_queries_at_p99=180.0)
    text = (ROOT / "docs/money.md").read_text()
    for figure, stated in UNDER_LOAD.items():
        assert figures[figure] == pytest.approx(float(stated.split()[0]), abs=5e-5)
        assert f"**{stated}**" in text
    for figure in set(STATED) - {*money.OF_QUERIES}:
        assert figures[figure] == bill()[figure]
    assert bill(queries_per_s_at_p99=None)["usd_per_month"] == bill()["usd_per_month"]


def test_a_capacity_takes_the_place_of_the_median_latency_in_errors_and_sources():
    fields = {"relative_errors.queries_per_s_at_p99": 0.1, "relative_errors.query_latency_p50_ms": 0.5}
    runs = pd.DataFrame([PROFILE | {"queries_per_s_at_p99": 200.0} | fields, PROFILE | fields])
    cloud = replace(PRICES, usd_per_kwh=0)
    priced = money.priced(runs.add_prefix("profile."), cloud, SCENARIO)
    errors = priced["profile.relative_errors.usd_per_1m_queries"]
    assert errors.tolist() == pytest.approx([0.1, 0.5], rel=1e-3)
    sources = priced["profile.sources.usd_per_1m_queries"]
    assert sources.str.partition("; time of a query: ")[2].tolist() == ["queries_per_s_at_p99", "query_latency_p50_ms"]
    assert set(priced["profile.sources.usd_per_month_index"]) == {f"modelled: {cloud}; {SCENARIO}"}


def test_power_within_the_hour_is_not_paid_again_and_its_co2_stays():
    cloud, own = bill(replace(PRICES, usd_per_kwh=0)), bill()
    assert cloud["usd_per_1m_queries"] == pytest.approx(3.60)
    assert cloud["usd_to_encode_corpus"] == pytest.approx(18)
    assert cloud["kg_co2_per_month"] == own["kg_co2_per_month"]
    assert "power within the hour" in str(replace(PRICES, usd_per_kwh=0))
    assert "power at 0.25 USD/kWh" in str(PRICES)


def test_a_missing_figure_matters_only_where_it_counts():
    unknown = {"energy_j_per_1k_queries": None, "idle_power_w": None}
    assert np.isnan(bill(**unknown)["usd_per_1m_queries"])
    cloud = bill(replace(PRICES, usd_per_kwh=0), **unknown)
    assert cloud["usd_per_1m_queries"] == pytest.approx(3.60)
    assert np.isnan(cloud["kg_co2_per_month"])


def test_utilisation_makes_queries_more_expensive_and_does_not_change_encoding():
    full = bill(scenario=replace(SCENARIO, utilisation=1))
    assert full["usd_per_1m_queries"] == pytest.approx(5 * 0.36 + 0.15 * 0.25)  # 5 h; 360,000 + 180,000 J
    assert full["usd_to_encode_corpus"] == bill()["usd_to_encode_corpus"]


def test_without_load_only_the_index_costs():
    at_rest = bill(scenario=replace(SCENARIO, queries_per_day=0, reencodes_per_year=0))
    assert at_rest["usd_per_month"] == at_rest["usd_per_month_index"] == pytest.approx(1.3824)
    assert at_rest["kg_co2_per_month"] == 0
    assert bill(scenario=replace(SCENARIO, corpus_passages=0))["usd_per_month"] == pytest.approx(3.65 * 3.65)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "prices.usd_per_instance_hour=-0.01",
            r"prices\.usd_per_instance_hour=-0.01: it must lie in ",
        ),
        ("prices.usd_per_kwh=nan", r"prices\.usd_per_kwh=nan: it must"),
        ("prices.usd_per_gb_month=inf", r"prices\.usd_per_gb_month=inf: it must"),
        ("prices.g_co2_per_kwh=-1", r"prices\.g_co2_per_kwh=-1.0: it must"),
        ("scenario.corpus_passages=-1", r"scenario\.corpus_passages=-1: it must"),
        ("scenario.queries_per_day=-1", r"scenario\.queries_per_day=-1.0: it must"),
        ("scenario.reencodes_per_year=-1", r"scenario\.reencodes_per_year=-1.0: it must"),
        ("scenario.utilisation=0", r"scenario\.utilisation=0.0: it must lie in \(0, 1\]"),
        ("scenario.utilisation=1.01", r"scenario\.utilisation=1.01: it must lie in \(0, 1\]"),
    ],
)
def test_impossible_values_name_their_key(override, message):
    with pytest.raises(UserError, match=message):
        report(override)


@pytest.mark.parametrize("sheet", sorted(path.stem for path in (ROOT / "conf/prices").glob("*.yaml")))
@pytest.mark.parametrize("scenario", sorted(path.stem for path in (ROOT / "conf/scenario").glob("*.yaml")))
def test_every_sheet_says_where_its_prices_come_from(sheet, scenario):
    prices = report(f"prices={sheet}", f"scenario={scenario}").prices
    assert "." in prices.source
    assert pd.Timestamp(prices.date) > pd.Timestamp("2020")


def test_a_sheet_that_lacks_a_price_is_refused(tmp_path):
    (tmp_path / "prices").mkdir()
    sheet = (ROOT / "conf/prices/cpu_example.yaml").read_text()
    (tmp_path / "prices/own.yaml").write_text(sheet.replace("usd_per_kwh:", "#"))
    with pytest.raises(OmegaConfBaseException, match="missing mandatory value: usd_per_kwh"):
        report("prices=own", folder=tmp_path)


def test_runs_get_figures_and_sources_where_they_have_a_profile(tmp_path):
    store = ResultStore(tmp_path)
    records.add_run(store, "s", 3, "none", profiled=False)
    plain = tables.runs(store, "s")
    assert money.priced(plain, PRICES, SCENARIO) is plain
    records.add_run(store, "s", 6, "none")
    without, priced = money.priced(tables.runs(store, "s"), PRICES, SCENARIO).to_dict("records")
    for figure in STATED:
        assert np.isnan(without[f"profile.{figure}"])
        assert pd.isna(without[f"profile.sources.{figure}"])
        assert priced[f"profile.{figure}"] > 0
        time = "; time of a query: query_latency_p50_ms" if figure in money.OF_QUERIES else ""
        assert priced[f"profile.sources.{figure}"] == f"modelled: {PRICES}; {SCENARIO}{time}"


@pytest.mark.parametrize(
    ("sheet", "facts", "doubt"),
    [
        ("cpu_example", {"device": "cpu", "cpu_vector_instructions": "AVX512"}, None),
        ("cpu_example", {"device": "cpu", "architecture": "aarch64"}, "priced as x86_64, profiled on arm64"),
        ("arm_example", {"device": "cpu", "architecture": "x86_64"}, "priced as arm64, profiled on x86_64"),
        ("arm_example", {"device": "cpu"}, None),  # not known
        ("cpu_example", {"device": "cuda", "gpu": "NVIDIA H200"}, "priced with no GPU, profiled with NVIDIA H200"),
        ("gpu_example", {"device": "cuda", "gpu": "NVIDIA H200"}, "priced with A10G, profiled with NVIDIA H200"),
        ("gpu_example", {"device": "cuda", "gpu": "NVIDIA A10G"}, None),
        ("gpu_example", {"device": "cpu", "architecture": "x86_64"}, "priced with A10G, profiled with no GPU"),
    ],
)
def test_a_sheet_of_another_kind_of_machine_is_named_in_the_sources(tmp_path, sheet, facts, doubt):
    store = ResultStore(tmp_path)
    record = records.add_run(store, "s", 6, "none")
    details = record.profile.details | {"machine": {"cpu": "a processor"} | facts}
    store.save(replace(record, profile=replace(record.profile, details=details)))
    (priced,) = money.priced(tables.runs(store, "s"), report(f"prices={sheet}").prices, SCENARIO).to_dict("records")
    ending = priced["profile.sources.usd_per_month"].removeprefix(
        f"modelled: {report(f'prices={sheet}').prices}; {SCENARIO}"
    )
    time = "; time of a query: query_latency_p50_ms"
    assert ending == time + (f"; not the profiled machine: {doubt}" if doubt else "")


def run(folder, *arguments):
    command = [sys.executable, "-m", "pipeline.report", *arguments]
    environment = os.environ | {"WANDB_MODE": "disabled"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_price_changes_its_columns_and_no_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = ResultStore(tmp_path / "results")
    for sampler in ("none", "hybrid"):
        records.add_run(store, "s", 24, sampler, cost_only=True)
    times = {path: path.stat().st_mtime_ns for path in (store.root / "runs").rglob("*")}
    publish.report(store.root, "s")  # as at the end of a sweep
    capsys.readouterr()
    before = pd.read_csv(store.root / "s/runs.csv")
    ended = run(tmp_path, "sweep=s", "prices=gpu_example", "scenario.queries_per_day=0")
    assert ended.returncode == 0, ended.stderr
    after = pd.read_csv(store.root / "s/runs.csv")
    changed = {column for column in before if not before[column].equals(after[column])}
    figures = {f"profile.{figure}" for figure in STATED if figure.startswith("usd") and "index" not in figure}
    assert changed == figures & set(before)
    ratio = after["profile.usd_per_1m_queries"] / before["profile.usd_per_1m_queries"]
    assert ratio.tolist() == pytest.approx([1.006 / 0.1008] * 2)
    assert {path: path.stat().st_mtime_ns for path in (store.root / "runs").rglob("*")} == times


def test_help_lists_the_options_and_files(tmp_path):
    code, out, _ = inside("--help", cwd=tmp_path, module="pipeline.report")
    assert code == 0
    for word in ("pipeline.report articles", "conf/prices", "usd_per_kwh", "utilisation"):
        assert word in out
    assert list(tmp_path.iterdir()) == []

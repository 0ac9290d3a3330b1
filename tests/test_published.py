"""Published scores: what is read and refused; intervals, modelled costs and lines worked by hand; the page."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import records
from browser import AXE, OPEN_ALL, PICTURES, PROGRAM, SERIOUS, Browser
from command import inside

from pipeline.analysis.published import costs, languages, models, scores, size, study
from pipeline.reporting.config import options
from pipeline.reporting.html import published as page
from pipeline.store.records import Record
from pipeline.store.results import ResultStore, RunState
from pipeline.values import UserError

COUNTED = models.architectures().set_index("architecture")
PROFILED = ["minilm-l6", "bge-small", "bge-base", "e5-small", "e5-base", "granite-107m", "e5-large"]


def result(folder, model, revision, task, split, subsets, *, mteb="2.1.0", dataset="397ed406c1a7"):
    """Write a result in the layout of mteb's repository; its times and CO2 cannot be read as numbers."""
    entries = [{"hf_subset": name, "ndcg_at_10": value, "main_score": -1.0} for name, value in subsets.items()]
    text = {"dataset_revision": dataset, "mteb_version": mteb, "task_name": task, "scores": {split: entries}}
    text |= {"evaluation_time": "never read", "kg_co2_emissions": "never read"}
    path = folder / "results" / model.replace("/", "__") / revision / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(text))
    meta = {"name": model, "n_parameters": 9, "training_datasets": ["MIRACLRetrieval", "NQ"] if "e5" in model else None}
    path.with_name("model_meta.json").write_text(json.dumps(meta))
    return path


def mlqa(**values):
    pairs = {f"{a}-{b}": 0.5 for a in ("ara", "deu", "eng") for b in ("ara", "deu", "eng")}
    return pairs | {name.replace("_", "-"): value for name, value in values.items()}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "mteb"
    result(folder, "a/e5", "r1", "MLQARetrieval", "test", mlqa(ara_deu=0.004), dataset="5bef8b6e2601")
    result(folder, "a/e5", "r0", "MLQARetrieval", "test", {"ara-ara": 0.9}, mteb="3.0.0")
    result(folder, "b/poor", "r1", "MLQARetrieval", "test", mlqa(ara_deu=0.002), dataset="5bef8b6e2601")
    chance = dict.fromkeys(mlqa(), 0.003)  # of a random encoder, in both directions
    result(folder, "r/random", "r1", "MLQARetrieval", "test", chance, dataset="5bef8b6e2601")
    result(folder, "c/sound", "old", "MLQARetrieval", "test", mlqa(deu_deu=0.1), mteb="1.9.0")
    result(folder, "c/sound", "new", "MLQARetrieval", "test", mlqa(deu_deu=0.7), mteb="1.10.0")
    result(folder, "d/part", "r1", "MLQARetrieval", "test", {"ara-ara": 0.9, "deu-deu": 0.9})
    return folder


def test_the_most_complete_then_the_newest_revision_is_read(repository):
    published = scores.read(repository)
    of_model = published.scores.set_index(["model", "subset"])
    assert set(published.scores["model"]) == {"a/e5", "b/poor", "c/sound", "r/random"}
    assert of_model.loc[("a/e5", "ara-ara"), "revision"] == "r1"
    assert of_model.loc[("c/sound", "deu-deu"), ["revision", "ndcg_at_10"]].tolist() == ["new", 0.7]
    assert published.models.set_index("model")["trained_on_miracl"].map(str).to_dict() == {
        **{"a/e5": "True", "b/poor": "None", "c/sound": "None", "d/part": "None", "r/random": "None"}
    }


def test_incomplete_models_and_broken_directions_are_refused(repository):
    published = scores.read(repository)
    assert "ara-deu" not in set(published.scores["subset"])  # of all models, so that they are compared on equal pairs
    assert published.scores.groupby("model").size().to_dict() == dict.fromkeys(
        ["a/e5", "b/poor", "c/sound", "r/random"], 8
    )
    reasons = published.refused.set_index("what")["reason"]
    assert reasons["ara-deu of dataset revision 5bef8b6"].startswith("broken: below a tenth of deu-ara in each of 2")
    assert reasons["d/part"] == "incomplete: it lacks 6 of 8 subsets, ara-eng for one"


def test_a_direction_that_one_sound_model_masters_is_not_broken(repository):
    result(repository, "e/other", "r1", "MLQARetrieval", "test", mlqa(ara_deu=0.06), dataset="5bef8b6e2601")
    assert "ara-deu" in set(scores.read(repository).scores["subset"])


def test_the_broken_pair_is_found_in_the_sample_and_in_the_tables(shared_data):
    folder = shared_data / "published"
    for path in (folder / "sample", folder):
        published = scores.read(path)
        directions = published.refused[published.refused["reason"].str.startswith("broken")]
        assert directions["what"].tolist() == ["ara-deu of dataset revision 5bef8b6"]
    sample = scores.read(folder / "sample").refused["what"].tolist()
    assert "intfloat/multilingual-e5-large" in sample  # MIRACL of one language


def test_the_sample_says_what_the_tables_say(shared_data):
    folder = shared_data / "published"
    on = ["benchmark", "model", "subset", "ndcg_at_10"]
    sample, tables = scores.read(folder / "sample").scores, scores.read(folder).scores
    assert len(sample.merge(tables, on=on)) == len(sample) > 300


def test_the_tables_hold_the_models_that_they_promise(shared_data):
    published = scores.read(shared_data / "published")
    groups = published.scores.groupby("benchmark")
    assert groups["model"].nunique().to_dict() == {
        **{"belebele": 190, "miracl": 93, "miracl_hard_negatives": 226, "mlqa": 196, "xquad": 136}
    }
    assert groups["subset"].nunique()[["miracl", "mlqa", "belebele"]].tolist() == [18, 48, 376]
    belebele = published.scores.query("benchmark == 'belebele'")["subset"].unique()
    assert sum(languages.setting_of(subset) == "mono" for subset in belebele) == 122


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results/a/r/MLQARetrieval.json", "{", r"MLQARetrieval\.json cannot be read"),
        ("results/a/r/MLQARetrieval.json", '{"scores": {}}', r"MLQARetrieval\.json lacks dataset_revision"),
        ("results/readme.md", "", r"scores=.*: no result of MIRACLRetrievalHardNegatives, .* is in results/<model>"),
        ("other.csv", "", r"is neither a clone of github.com/embeddings-benchmark/results, .* nor a folder of tables"),
        ("models.csv", "model,name\n", r"models\.csv lacks the column n_parameters"),
        ("mlqa.csv", "model,subset\n", r"mlqa\.csv lacks the column dataset_revision"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, text, message):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    if name == "models.csv":
        (tmp_path / "mlqa.csv").write_text(",".join(scores.ROW) + "\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        scores.read(tmp_path)


def frame(table):
    """Scores of models by subset, as rows."""
    rows = pd.DataFrame(table).rename_axis(columns="model").rename_axis("subset").stack().rename("ndcg_at_10")
    return rows.reset_index().assign(benchmark="mlqa")


def test_intervals_are_paired_and_hold_the_spread_of_languages():
    rng = np.random.default_rng(0)
    hard_L = rng.normal(0.5, 0.1, 18)
    names = [f"l{n:02}" for n in range(18)]
    better_L = hard_L + 0.01 + rng.normal(0, 0.002, 18)
    both = pd.DataFrame({"a": hard_L, "b": better_L}, index=names)
    sample = languages.samples(frame(both))
    mono = sample["mono"]
    low, high = (languages.accuracies(mono).set_index("model").loc["a", f"accuracy_{end}"] for end in ("low", "high"))
    error = np.std(hard_L, ddof=1) / 18**0.5
    assert (high - low) / 2 == pytest.approx(2.11 * error, rel=0.1)  # Student's t of 17 degrees of freedom
    gain, low, high = languages.difference(mono, "b", "a")
    assert 0 < low < gain < high < 0.02


def test_english_in_every_pair_is_part_of_the_design():
    pairs = {f"{a}-{b}": 0.4 for x in ("de", "fr", "ru") for a, b in ((x, "en"), ("en", x))}
    sample = languages.samples(frame({"a": pairs | {"en-en": 0.9, "de-de": 0.5, "fr-fr": 0.5, "ru-ru": 0.5}}))
    assert sample["cross"].draws_BM["a"].to_numpy() == pytest.approx(0.4)
    # English is drawn once of three or four times: weights 1 of 1 + n, with 0 to 4 of the others
    assert sample["mono"].mean_M["a"] == pytest.approx(0.6)


def test_a_gap_that_closes_with_size_has_its_slope():
    sizes = {"model": list("abcd"), "active_parameters": [1e6, 2e6, 4e6, 8e6]}
    active = pd.DataFrame(sizes | {"zero_shot": models.SILENT})
    mono, cross = [0.5, 0.6, 0.7, 0.8], [0.3, 0.45, 0.6, 0.75]
    table = {
        name: {"ara-ara": m, "deu-deu": m, "ara-deu": c, "deu-ara": c}
        for name, m, c in zip("abcd", mono, cross, strict=True)
    }
    drawn = {("mlqa", setting): sample for setting, sample in languages.samples(frame(table)).items()}
    gaps = size.gaps(drawn).set_index("model")
    assert gaps["gap"].to_dict() == pytest.approx({"a": 0.2, "b": 0.15, "c": 0.1, "d": 0.05})
    trends = size.trends(drawn, active, {("mlqa", name) for name in "abcd"}).query("group == @size.ALL")
    assert trends.set_index("quantity")["slope"].to_dict() == pytest.approx({"mono": 0.1, "cross": 0.15, "gap": -0.05})
    ladders = size.ladders(drawn, active.assign(recipe=["r", None, "r", None])).set_index("quantity")
    assert ladders.loc["gap", ["slope", "smallest", "largest"]].tolist() == [pytest.approx(-0.05), "a", "c"]


def profiled(store, sweep="sweep", names=PROFILED, weights="random"):
    """Save profiles whose costs are a constant, a part per layer and a part per parameter-token."""
    for name in names:
        facts = COUNTED.loc[name]
        work = facts["active_parameters"] / 1e6
        latency_ms, ms_per_passage = 1 + 0.2 * facts["layers"] + 0.1 * work, 0.5 + 0.01 * facts["layers"] + 0.7 * work
        base = records.profile(6)
        numbers = {
            "parameters": int(facts["parameters"]),
            "query_latency_p50_ms": latency_ms,
            "query_latency_p95_ms": 1.2 * latency_ms,
            "passages_per_s": 1000 / ms_per_passage,
            "passage_tokens_per_s": 200_000 / ms_per_passage,
            "peak_rss_mib": 400 + facts["parameters"] * 4 / 2**20,
            "index_bytes_per_passage": 4.0 * facts["width"],
        }
        details = {**base.details, "by_language": [{"language": "en", "tokens": 20.0}]}
        profile = replace(base, **numbers, details=details)
        config = {"model": {"family": name, "weights": weights}, "sampler": {"_target_": "none"}, "seed": 0}
        config |= {"threads": 2, "sweep": sweep, "results_dir": str(store.root)}
        choices = {"model": name, "sampler": "none", "data": "none"}
        provenance = {"layers": int(facts["layers"]), "time": "2026-01-01T00:00:00Z", "clusters": {}}
        record = Record(f"{name}-none", name, "done", choices, config, seed=0, provenance=provenance, profile=profile)
        store.save(record)
        store.add_to_manifest(sweep, RunState(record.name, "done", choices, 1.0))


@pytest.fixture
def store(tmp_path):
    store = ResultStore(tmp_path / "results")
    profiled(store)
    return store


def test_costs_that_follow_the_law_are_modelled_exactly(store):
    known, held_out = costs.of_architectures(costs.measured(store, "sweep"))
    known = known.set_index("architecture")
    source = known.loc["bge-large", "profile.sources.query_latency_p95_ms"]
    assert source.startswith("modelled: 7 architectures in float32")
    active = COUNTED.loc["bge-large", "active_parameters"] / 1e6
    assert known.loc["bge-large", "profile.query_latency_p95_ms"] == pytest.approx(1.2 * (1 + 4.8 + 0.1 * active))
    assert known.loc["bge-large", "profile.quality"] == "not measured"
    memory = 400 + COUNTED.loc["bge-large", "parameters"] * 4 / 2**20
    assert known.loc["bge-large", "profile.peak_rss_mib"] == pytest.approx(memory)
    assert np.isnan(known.loc["qwen3-embedding-8b", "profile.query_latency_p95_ms"])  # no bfloat16 was measured
    exact = held_out[held_out["cost"] != "energy_j_per_1k_queries"]
    assert exact[exact["cost"].str.startswith("query")]["ratio"].to_numpy() == pytest.approx(1)


def test_another_architecture_under_a_known_name_is_refused(store):
    record = store.load("e5-small-none")
    store.save(replace(record, profile=replace(record.profile, parameters=7)))
    with pytest.raises(UserError, match=r"profiled e5-small with 7 parameters, but architectures\.csv counts 117,"):
        costs.measured(store, "sweep")


def test_a_sweep_of_other_weights_is_refused(store):
    profiled(store, "trained", weights="packaged")
    with pytest.raises(UserError, match=r"sweep trained in .* has no finished run with a profile of random weights"):
        costs.measured(store, "trained")


@pytest.fixture
def tables(tmp_path):
    """Scores of four public models on MIRACL and MLQA: the larger the better, and one that says nothing of its data."""
    folder = tmp_path / "tables"
    folder.mkdir()
    names = ["intfloat/multilingual-e5-small", "intfloat/multilingual-e5-base", "intfloat/multilingual-e5-large", "a/b"]
    rows = [
        (name, "d", subset, 0.4 + 0.05 * place + 0.01 * spread)
        for place, name in enumerate(names)
        for spread, subset in enumerate(["ar", "en", "fi", "sw"])
    ]
    pd.DataFrame(rows, columns=scores.ROW).to_csv(folder / "miracl_hard_negatives.csv", index=False)
    pairs = [f"{a}-{b}" for a in ("ara", "deu", "eng") for b in ("ara", "deu", "eng")]
    rows = [
        (name, "d", subset, 0.5 + 0.05 * place + 0.005 * spread)
        for place, name in enumerate(names)
        for spread, subset in enumerate(pairs)
    ]
    pd.DataFrame(rows, columns=scores.ROW).to_csv(folder / "mlqa.csv", index=False)
    facts = {"model": names, "n_parameters": [118e6, 278e6, 560e6, None], "n_embedding_parameters": None}
    pd.DataFrame(facts | {"trained_on_miracl": [False, False, True, None]}).to_csv(folder / "models.csv", index=False)
    return folder


def test_fronts_steps_and_choices(store, tables):
    config = options(store.root, "sweep")
    found = study.study(scores.read(tables), costs.measured(store, "sweep"), config.prices, config.scenario)
    points = found["points"].query("benchmark == 'mlqa' and setting == 'cross' and cost == 'query_latency_p95_ms'")
    assert points["on_front"].all()
    assert points.set_index("model")["on_zero_shot_front"].sum() == 2
    assert len(points) == 3  # a/b has no known architecture, so no cost
    steps = found["neighbours"].query("benchmark == 'mlqa' and setting == 'cross' and cost == 'query_latency_p95_ms'")
    assert steps.query("pool == @study.EVERYONE")["gain"].tolist() == pytest.approx([0.05, 0.05])
    assert steps["told_apart"].all()
    choices = found["choices"].query("benchmark == 'mlqa'").set_index(["pool", "budget"])["model"]
    assert choices[study.EVERYONE].tolist() == [
        f"intfloat/multilingual-e5-{name}" for name in ("small", "base", "large")
    ]
    assert choices[models.NOT_TRAINED].tolist() == [f"intfloat/multilingual-e5-{name}" for name in ("small", "base")]
    dollars = found["points"].query("cost == 'usd_per_1m_queries'")
    assert (dollars["value"] > 0).all()
    ladder = found["ladders"].query("benchmark == 'mlqa' and quantity == 'mono'").iloc[0]
    assert (ladder["recipe"], ladder["models"]) == ("multilingual-e5", 3)


def test_the_command_leaves_tables_a_figure_and_a_page(store, tables):
    command = [sys.executable, "-m", "pipeline.published", "sweep", f"scores={tables}", f"results_dir={store.root}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = store.sweep_dir("sweep")
    assert (folder / "published.png").read_bytes()[:4] == b"\x89PNG"
    text = (folder / "published.html").read_text()
    lead = text.split('class="lead">')[1].split("</p>")[0]
    assert lead == (
        "Within 100 ms (query latency, p95), the most accurate public encoder is "
        "intfloat/multilingual-e5-large for monolingual search (nDCG@10 0.515) and "
        "intfloat/multilingual-e5-large for cross-lingual search (nDCG@10 0.620)."
    )
    assert len(lead.split()) < 40
    assert text.count('<article class="card">') == 2
    first = text.split("<dt>within 10 ms</dt><dd><b>")[1].split("</dd>")[0]
    assert first.startswith("intfloat/multilingual-e5-small</b>")
    assert "0.415 [" in first
    assert " ms, measured" in first
    assert {path.stem for path in Path(folder).glob("published-*.csv")} > {"published-points", "published-trends"}


def test_bad_input_is_one_sentence_and_exit_code_2(store, tmp_path, monkeypatch):
    monkeypatch.delenv("PUBLISHED_DIR", raising=False)
    for words, says in (
        (["sweep"], "scores is missing: name a folder of published scores"),
        (["sweep", f"scores={tmp_path / 'none'}"], "is neither a clone of"),
        (["sweep", f"scores={tmp_path}"], "no result of MIRACLRetrievalHardNegatives"),  # a results folder of ours
    ):
        code, _, err = inside(*words, f"results_dir={store.root}", cwd=tmp_path, module="pipeline.published")
        assert code == 2
        assert says in err
        assert len(err.strip().splitlines()) == 1


@pytest.fixture
def opened(store, tables, tmp_path):
    """published.html in a browser, and what draws it."""
    if PROGRAM is None:
        pytest.skip("no chromium is installed")
    config = options(store.root, "sweep")
    found = study.study(scores.read(tables), costs.measured(store, "sweep"), config.prices, config.scenario)
    path = tmp_path / "published.html"
    path.write_text(page.render("sweep", found))
    browser = Browser(tmp_path / "chromium")
    yield browser, path
    browser.close()


def test_in_a_browser_the_page_draws_the_chosen_front(opened):
    browser, path = opened
    browser.open(path, 1200)
    shown = "document.getElementById('published-front').data.filter((trace) => trace.mode === 'markers')"
    assert browser.run(f"{shown}.map((trace) => trace.x.length)") == [2, 0, 1]  # did not train, does not say, trained
    pick = "(id, value) => {const box = document.getElementById(id); box.value = value; "
    pick += "box.dispatchEvent(new Event('change'))}"
    browser.run(f"({pick})('published-pool', 'says it did not')")
    assert browser.run(f"{shown}.map((trace) => trace.x.length)") == [2, 0, 0]
    browser.run(f"({pick})('published-cost', 'parameters')")
    assert sorted(browser.run(f"{shown}[0].x")) == pytest.approx([117_505_920, 277_453_056], rel=1e-5)
    browser.run(f"({pick})('point', 'intfloat/multilingual-e5-base')")
    assert "parameters 277,453,056, counted" in browser.run("document.getElementById('chosen').innerText")
    browser.run("document.querySelector('#published-classes input').click()")
    assert browser.run("document.getElementById('published-front').data ?? []") == []  # nothing is left to draw
    assert not browser.errors
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "blob"}


@pytest.mark.parametrize(("width_px", "scheme"), [(1400, "light"), (800, "dark"), (400, "light")])
def test_in_a_browser_the_page_is_accessible(opened, width_px, scheme):
    browser, path = opened
    browser.open(path, width_px, scheme=scheme)
    browser.screenshot(PICTURES / f"published-{width_px}-{scheme}.png", whole=False)
    browser.run(OPEN_ALL)
    assert browser.run("document.documentElement.scrollWidth") == width_px
    browser.run(AXE.read_text())
    assert browser.run(SERIOUS) == []
    assert not browser.errors

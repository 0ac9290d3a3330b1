"""One trained encoder, deployed as several inference variants: a record each, from one encoding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import SMALL, TINY, inside, records
from records import profile

from pipeline import experiment
from pipeline.groups import Device
from pipeline.launch.hardware import has_bfloat16
from pipeline.retrieval import exact, metrics, scoring
from pipeline.retrieval.centring import check_centre
from pipeline.retrieval.ranking import rank_benchmark
from pipeline.retrieval.rankings import RANKINGS, load_rankings
from pipeline.retrieval.scoring import score_benchmark
from pipeline.retrieval.vectors import truncate
from pipeline.values import Collection, Relevance, Texts, UserError, Variant

RNG = np.random.default_rng(0)


def vectors(rows, width=32):
    emb_ND = RNG.standard_normal((rows, width), np.float32)
    return emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)


def collection(passages=300, queries=40):
    sides = {lang: Texts([f"{lang}{n}" for n in range(passages)], [""] * passages) for lang in ("de", "en")}
    questions = {lang: Texts([f"q{n}" for n in range(queries)], [""] * queries) for lang in ("de", "en")}
    positions = np.arange(queries)
    judged = Relevance(positions.astype(np.int32), positions, np.ones(queries, np.int8))
    return Collection("toy", questions, sides, {(a, b): judged for a in sides for b in sides})


def test_widths_and_indexes_read_the_same_embeddings(tmp_path):
    passages = {lang: vectors(300) for lang in ("de", "en")}
    queries = {lang: vectors(40) + 0.3 * passages[lang][:40] for lang in ("de", "en")}
    queries = {lang: emb_QD / np.linalg.norm(emb_QD, axis=1, keepdims=True) for lang, emb_QD in queries.items()}

    def scores(variant):
        folder = tmp_path / variant.label
        folder.mkdir()
        rank_benchmark(queries, passages, collection(), variant, folder)
        return score_benchmark(folder, collection(), ["map"]).figures

    as_trained = scores(Variant())
    assert scores(Variant(index="Flat")) == pytest.approx(as_trained)
    narrow = [{lang: truncate(emb_ND, 8) for lang, emb_ND in side.items()} for side in (queries, passages)]
    table = scoring.per_query_table(exact.rank(*narrow, collection()), collection(), ["map"])
    assert scores(Variant(width=8)) == {f"toy.{key}": value for key, value in metrics.macro(table).items()}
    assert scores(Variant(width=8, index="LSH"))["toy.multi.map"] < as_trained["toy.multi.map"]
    assert scores(Variant(index="Flat", centre="both")) == pytest.approx(scores(Variant(centre="both")), abs=1e-4)


@pytest.mark.parametrize("width", [None, 8])
@pytest.mark.parametrize("centre", ["passages", "both"])
def test_centring_takes_the_languages_offsets_away(tmp_path, centre, width):
    """Translations that differ by an offset of their language rank side by side; a plain loop gives the same ranks."""
    content_ND, offsets = vectors(300), {"de": 2 * vectors(1), "en": 2 * vectors(1)}
    moved = {lang: content_ND + offset_1D for lang, offset_1D in offsets.items()}
    passages = {lang: emb_PD / np.linalg.norm(emb_PD, axis=1, keepdims=True) for lang, emb_PD in moved.items()}
    queries = {lang: emb_PD[:40] for lang, emb_PD in passages.items()}
    figures = []
    for variant in (Variant(width=width), Variant(width=width, centre=centre)):
        folder = tmp_path / variant.label
        folder.mkdir()
        rank_benchmark(queries, passages, collection(), variant, folder)
        figures.append(score_benchmark(folder, collection(), ["rank_distance"]).figures["toy.multi.rank_distance"])
    assert figures[1] < figures[0] / 4
    rankings = load_rankings(folder / RANKINGS)
    (ranking,) = [one for one in rankings if (one.setting, one.query_language) == ("multi", "en")]

    short = {lang: list(truncate(emb_PD, width or emb_PD.shape[1])) for lang, emb_PD in passages.items()}
    means = {lang: sum(emb_PD) / len(emb_PD) for lang, emb_PD in short.items()}
    back_D = (means["de"] + means["en"]) / 2 if centre == "passages" else 0
    pool = [emb_D - means[lang] + back_D for lang in ("de", "en") for emb_D in short[lang]]
    for place, query in enumerate(ranking.query):
        query_D = short["en"][query] - (means["en"] if centre == "both" else 0)
        scores = [emb_D @ query_D / np.linalg.norm(emb_D) for emb_D in pool]
        own = scores[300 * ranking.language[place] + query]
        assert abs(ranking.rank[place] - 1 - sum(score > own for score in scores)) <= 1  # float32: a tie may swap


def test_centring_both_sides_needs_passages_in_every_language():
    whole = collection()
    check_centre("both", whole)
    fewer = replace(whole, passages={"de": whole.passages["de"]})
    check_centre("passages", fewer)
    with pytest.raises(UserError, match=r"centre=both needs two passages or more .*: toy has 0 in en\."):
        check_centre("both", fewer)


def test_variants_are_runs_of_their_own_and_cached(tmp_path):
    grids = "variants.grids=[{width:[null,96],index:[exact,SQ8]},{precision:[bfloat16]},{centre:[both],index:[SQ8]}]"
    code, _, err = inside(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0, err
    by_variant = {record["variant"]: record for record in records(tmp_path)}
    fast = has_bfloat16(Device.cpu)
    assert fast or "skipped: " in err
    expected = {"as trained", "SQ8", "w96", "w96 SQ8", "SQ8 centre=both"}
    assert set(by_variant) == expected | ({"bfloat16"} if fast else set())
    accuracy = {variant: record["metrics"]["worldfacts.multi.map"] for variant, record in by_variant.items()}
    assert accuracy["w96"] < accuracy["as trained"]
    assert accuracy["SQ8"] == pytest.approx(accuracy["as trained"], abs=0.02)
    assert accuracy.get("bfloat16", accuracy["as trained"]) == pytest.approx(accuracy["as trained"], abs=0.02)
    assert by_variant["w96"]["corpus"]["worldfacts"] == by_variant["as trained"]["corpus"]["worldfacts"]
    code, _, err = inside(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0
    assert "cached" in err


def test_a_new_metric_encodes_nothing(tmp_path):
    code, _, err = inside(*SMALL, "sampler=none", "metrics=[map]", cwd=tmp_path)
    assert code == 0, err
    assert "  rank …" in err
    code, _, err = inside(*SMALL, "sampler=none", "metrics=[map,ndcg_7]", cwd=tmp_path)
    assert code == 0, err
    assert "  rank …" not in err
    assert "  score …" in err
    first, second = sorted((record["metrics"] for record in records(tmp_path)), key=len)
    assert first.items() < second.items()
    assert 0 < second["worldfacts.mono.ndcg_7"] < 1


def test_a_run_whose_engine_is_missing_is_finished_until_it_is_installed(tmp_path):
    """torch cannot do int8 without torchao; where it is installed there is nothing to test."""
    grids = "variants.grids=[{precision:[int8]}]"
    code, _, err = inside(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0, err
    if "skipped: " not in err:
        pytest.skip("torchao is installed")
    assert "torchao" in err
    code, _, err = inside(*SMALL, "sampler=none", grids, cwd=tmp_path)
    assert code == 0, err
    assert "cached" in err


def test_what_is_profiled_is_deployed_before_the_machine_is_taken(tmp_path, monkeypatch):
    """A deployment is a stage, and would wait for ever for the stage that has the machine to itself."""
    folders = []

    def measured(job):
        folders.append(sorted(path.name for path in Path(job.folder).iterdir()))
        return profile(1)

    monkeypatch.setattr(experiment, "measure", measured)
    code, _, err = inside(*TINY, "profile=default", cwd=tmp_path)
    assert code == 0, err
    (record,) = records(tmp_path)
    assert record["profile"]["query_latency_p50_ms"] == profile(1).query_latency_p50_ms
    assert len(folders) == 1
    assert {"deployed.json", "tokenizer.json", "model.safetensors"} <= set(folders[0])

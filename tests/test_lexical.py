"""BM25 and its fusion with an encoder: against rank_bm25, trec_eval and ranx, and by hand."""

import math
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval
import rank_bm25

from pipeline.retrieval import bias, exact, fusion, lexical, metrics, rankings
from pipeline.retrieval.analyser import SNOWBALL, analyser
from pipeline.retrieval.fusion import fuse
from pipeline.retrieval.lexical import Bm25, Index
from pipeline.retrieval.results import best
from pipeline.values import Collection, Relevance, Sample, Texts, UserError, Variant

RNG = np.random.default_rng(0)
WORDS = Bm25("whitespace")


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "The panthers' DEFENSE gave-up 308 points.", "the panther defens gave up 308 point"),
        ("de", "Die Straßen der Städte", "die strass der stadt"),
        ("ar", "كم عدد النقاط؟", "كم عدد نقاط"),
        ("hi", "डिफ़ेंस के अंकों ने", "डिफ़ेंस क अंक न"),
        ("tr", "Isparta'nın IŞIĞI", "ıspar ışık"),
        ("el", "Οι Πάνθηρες", "οι πανθηρ"),
        ("zh", "防守在2015年丢了308分", "防守 在 2015 年 丢 了 308 分"),
        ("ja", "東京都に住む", "東京 都 に 住む"),
        ("th", "กินน้ำที่ไหน", "กิน น้ำ ที่ไหน"),  # NFKC splits the sara am of the second word: after ICU only
        ("vi", "Đội thủ của Panthers", "đội thủ của panthers"),
        ("en-GB", "Colours", "colour"),
    ],
)
def test_a_text_is_read_by_the_analyser_of_its_language(language, text, terms):
    assert analyser("icu_snowball", language)(text) == unicodedata.normalize("NFKC", terms).split()


def test_every_stemmer_exists_and_others_keep_words_whole():
    import Stemmer

    assert set(SNOWBALL.values()) <= set(Stemmer.algorithms())
    assert analyser("icu_snowball", "xx")("Runners, running") == ["runners", "running"]
    assert analyser("icu_snowball", "en")("... \n !?") == []


def vocabulary_texts(rows, terms=12, longest=9):
    return [[f"t{n}" for n in RNG.zipf(1.6, RNG.integers(longest)) % terms] for _ in range(rows)]


def test_scores_are_those_of_rank_bm25_with_lucenes_rarity():
    """Its BM25Okapi weighs tf alike, times k1 + 1; Lucene's ln(1 + ...) replaces a rarity that may be negative."""
    passages, queries = vocabulary_texts(60), vocabulary_texts(10)
    other = rank_bm25.BM25Okapi(passages, k1=0.9, b=0.4)
    holding = {term: sum(term in passage for passage in passages) for term in {t for p in passages for t in p}}
    other.idf = {term: math.log(1 + (60 - df + 0.5) / (df + 0.5)) for term, df in holding.items()}
    index = Index(passages, WORDS)
    for query in queries:
        assert index.scores(query) == pytest.approx(other.get_scores(query) / 1.9, rel=1e-5, abs=1e-6)


def collection(passages, queries, pairs, **fields):
    """One language `en` per default: texts of words, and pairs of a query and a relevant passage."""
    query, passage = np.array(pairs).T
    judged = Relevance(query.astype(np.int32), passage, np.ones(len(query), np.int8))
    sides = [Texts([f"{n}" for n in range(len(side))], side) for side in (queries, passages)]
    return Collection("words", {"en": sides[0]}, {"en": sides[1]}, {("en", "en"): judged}, **fields)


def test_ties_rank_by_position_and_what_is_not_found_comes_last_the_relevant_last_of_all():
    """Query "a": passages 1 and 3 are alike, 0 and 4 are longer; 2, 5, 6 do not hold it and 5, 6 are relevant."""
    words = collection(["a x", "a", "x", "a", "a x", "x x", "y"], ["a", "z"], [(0, 3), (0, 4), (0, 5), (0, 6), (1, 2)])
    (made,) = lexical.rank(WORDS.terms_of(words.queries), WORDS.terms_of(words.passages), words, WORDS)
    assert made.query.tolist() == [0, 0, 0, 0, 1]
    assert made.rank.tolist() == [2, 4, 6, 7, 7]
    assert made.top_language_QK[:, :5].tolist() == [[0, 0, 0, 0, -1], [-1] * 5]
    assert metrics.metric("map").function(made).tolist() == pytest.approx([(1 / 2 + 2 / 4 + 3 / 6 + 4 / 7) / 4, 1 / 7])


def several_languages(passages=40, queries=15):
    """Three languages whose texts share some words; the second query of each finds nothing."""

    def side(language, rows):
        drawn = [" ".join(f"{language if n % 3 else ''}{n}" for n in RNG.integers(25, size=6)) for _ in range(rows)]
        return Texts([f"{language}{n}" for n in range(rows)], [drawn[0], f"none{rows}", *drawn[2:]])

    languages = ("de", "en", "th")
    judged = {}
    for pair in [(one, other) for one in languages for other in languages]:
        query = np.repeat(np.arange(queries, dtype=np.int32), 2)
        passage = np.concatenate([RNG.choice(passages - 2, 2, replace=False) + 2 for _ in range(queries)])
        judged[pair] = Relevance(query, passage, RNG.integers(1, 3, 2 * queries).astype(np.int8))
    sides = [{language: side(language, rows) for language in languages} for rows in (queries, passages)]
    return Collection("several", *sides, judged)


def test_the_full_ranking_scores_as_trec_eval_says():
    """trec_eval reads the whole pool as a run: what is found, then what is not found, the relevant last."""
    several = several_languages()
    queries, passages = WORDS.terms_of(several.queries), WORDS.terms_of(several.passages)
    made = lexical.rank(queries, passages, several, WORDS)
    settings = {"de": "mono cross cross multi", "en": "cross mono cross multi", "th": "cross cross mono multi"}
    assert [one.setting for one in made] == " ".join(settings.values()).split()
    for one in made:
        pool = [(language, place) for language in one.pool_languages for place in range(len(passages[language]))]
        index = Index([passages[language][place] for language, place in pool], WORDS)
        run, qrels = {}, {}
        for query in one.queries.tolist():
            of = {}
            for language in one.pool_languages:
                judged = several.relevance[one.query_language, language]
                own = judged.query == query
                pairs = zip(judged.passage[own].tolist(), judged.grade[own].tolist(), strict=True)
                of |= {f"{language}{place}": grade for place, grade in pairs}
            scores = index.scores(queries[one.query_language][query])
            names = [f"{language}{place}" for language, place in pool]
            order = sorted(range(len(pool)), key=lambda n: (-scores[n], n if scores[n] else names[n] in of, n))
            run[str(query)] = {names[n]: float(len(pool) - rank) for rank, n in enumerate(order)}
            qrels[str(query)] = of
        theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut_10", "recall_10"}).evaluate(run)
        for ours, name in {"map": "map", "ndcg_10": "ndcg_cut_10", "r_10": "recall_10"}.items():
            expected = [theirs[str(query)][name] for query in one.queries.tolist()]
            assert metrics.metric(ours).function(one).tolist() == pytest.approx(expected)


def test_a_query_that_finds_nothing_prefers_no_language():
    several = several_languages()
    made = lexical.rank(WORDS.terms_of(several.queries), WORDS.terms_of(several.passages), several, WORDS)
    multi = next(one for one in made if one.setting == "multi")
    assert (multi.top_language_QK[1] == -1).all()
    assert bias.own_language_share(multi, 10)[1] == 1


@pytest.mark.parametrize("k", [1, 4, 5, 6, 30])
def test_the_best_are_those_of_a_stable_sort(k):
    scores = RNG.integers(4, size=30).astype(np.float32)
    by_sorting = [n for n in np.argsort(-scores, kind="stable") if scores[n]][:k]
    assert best(scores, k).tolist() == by_sorting


def test_passages_and_queries_without_terms_are_not_found():
    empty = collection(["", "!?"], ["", "a"], [(0, 0), (1, 1)])
    (made,) = lexical.rank(WORDS.terms_of({"en": Texts(["0", "1"], ["", "a"])}), {"en": [[], []]}, empty, WORDS)
    assert made.rank.tolist() == [2, 2]
    assert Index([[], []], WORDS).bytes == 0


def test_nested_pools_are_ranked_as_pools_of_that_size(tmp_path):
    texts = [f"a {'x ' * n}" for n in range(17)]
    sampled = collection(texts[::-1], ["a"], [(0, 0)], samples={"en": Sample(judged=1, full=1000)})
    lexical.rank_benchmark(sampled, WORDS, tmp_path)
    nested = rankings.load_rankings(tmp_path / rankings.NESTED)
    assert [(one.pool_sizes, one.rank.tolist()) for one in nested] == [
        ((1,), [1]), ((3,), [3]), ((5,), [5]), ((9,), [9]),
    ]  # fmt: skip
    (full,) = rankings.load_rankings(tmp_path / rankings.RANKINGS)
    assert full.rank.tolist() == [17]


def test_fusion_is_that_of_ranx():
    """Lists of 8 and 6 results, and what ranx 0.3.21 made of them: fuse(runs, method="rrf", params={"k": 60})."""
    results = [np.array([4, 6, 10, 0, 1, 3, 8, 7]), np.array([4, 10, 6, 3, 0, 11])]
    theirs = {4: 0.03278688524590164, 6: 0.03200204813108039, 10: 0.03200204813108039, 0: 0.031009615384615385}
    theirs |= {3: 0.030776515151515152, 1: 0.015384615384615385, 11: 0.015151515151515152, 8: 0.014925373134328358}
    theirs |= {7: 0.014705882352941176}
    assert fuse(results).tolist() == list(theirs)


def test_a_fused_ranking_is_that_of_a_sort():
    several = several_languages()
    emb = {
        side: {
            language: np.linalg.qr(RNG.standard_normal((64, len(texts))))[0].T.astype(np.float32)
            for language, texts in sides.items()
        }
        for side, sides in (("query", several.queries), ("passage", several.passages))
    }
    terms = WORDS.terms_of(several.queries), WORDS.terms_of(several.passages)
    made = fusion.rank((emb["query"], terms[0]), (emb["passage"], terms[1]), several, WORDS)
    assert len(made) == len(exact.rank(emb["query"], emb["passage"], several))
    for one in made:
        passages = [passage for language in one.pool_languages for passage in terms[1][language]]
        vectors = np.concatenate([emb["passage"][language] for language in one.pool_languages])
        starts = np.cumsum([0, *one.pool_sizes])
        index = Index(passages, WORDS)
        for query in one.queries.tolist():
            dense = np.argsort(-(vectors @ emb["query"][one.query_language][query]), kind="stable")
            scores = np.zeros(len(passages))
            for results in (dense, best(index.scores(terms[0][one.query_language][query]), len(passages))):
                scores[results] += 1 / (61 + np.arange(len(results)))
            place = np.argsort(np.argsort(-scores, kind="stable"))
            expected = []
            for number, language in enumerate(one.pool_languages):
                judged = several.relevance[one.query_language, language]
                expected += (1 + place[starts[number] + judged.passage[judged.query == query]]).tolist()
            assert one.rank[one.query == query].tolist() == sorted(expected)


def test_lists_are_fused_to_a_depth_and_the_rest_comes_last(monkeypatch, tmp_path):
    """With lists of two: the dense one finds passages 0 and 1, BM25 2 and 3; 4 is in neither, and last."""
    words = collection(["x", "x", "a", "a", "a"], ["a"], [(0, 1), (0, 2), (0, 4)])
    monkeypatch.setattr(fusion, "DEPTH", 2)
    emb_PD = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)
    fusion.rank_benchmark({"en": emb_PD[:1]}, {"en": emb_PD}, words, WORDS, tmp_path)
    (made,) = rankings.load_rankings(tmp_path / rankings.RANKINGS)
    assert made.rank.tolist() == [2, 3, 5]


@pytest.mark.parametrize(
    ("fusion", "sentence"),
    [
        ("sum", "variants: fusion=sum: There are: rrf."),
        ("rrf;k1", "variants: fusion=rrf;k1: could not convert string to float: ''."),
        ("rrf;k2=1", "unknown key variants: fusion=rrf.k2: There are: analyser, k1, b."),
        ("rrf;k1=-1", "variants: fusion=rrf.k1=-1.0: it must lie between 0 and 100."),
        ("rrf;analyser=icv", "variants: fusion=rrf.analyser=icv: did you mean icu? There are: "),
    ],
)
def test_a_fusion_that_cannot_be_is_refused(fusion, sentence):
    with pytest.raises(UserError) as error:
        lexical.fused_with(fusion)
    assert str(error.value).startswith(sentence)


def test_without_its_libraries_bm25_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(lexical, "find_spec", lambda name: None if name == "icu4py" else name)
    with pytest.raises(UserError, match=r"^model\.architecture: icu4py is missing: pip install .*\[lexical\]"):
        lexical.settings({}, "model.architecture")


def test_a_fused_variant_has_a_name_of_its_own():
    assert Variant(fusion="rrf").run_name("run") == "run+rrf"
    assert Variant("onnx", fusion="rrf;analyser=icu,k1=1.2").run_name("run") == "run+onnx-rrf-analyser=icu-k1=1.2"
    assert replace(Variant(), fusion="rrf").engine == Variant().engine

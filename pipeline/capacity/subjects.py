"""From a config to load results: what is measured is a run, an exported folder, the systems of a sweep, or a server."""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.capacity import systems
from pipeline.capacity.config import LoadConfig
from pipeline.capacity.loadgen import Settings
from pipeline.capacity.meter import Plan
from pipeline.capacity.meter import measure as measure_system
from pipeline.config import from_plain
from pipeline.encoder.encoding import encode
from pipeline.profiling import machine, nvidia
from pipeline.profiling.measure import sample_texts
from pipeline.profiling.meter import Texts
from pipeline.profiling.samples import round_robin
from pipeline.profiling.tracker import Tracker
from pipeline.serving import encoders
from pipeline.store import capacity
from pipeline.store.keys import installed
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.targets import build, check_target
from pipeline.values import Collection, Side, UserError

COUNTRY = "USA"  # codecarbon asks for one, for the CO2 that is not read here
OFFLINE_CALLS = 8  # of max_batch passages at a time: the engine never waits for the generator
NOT_SETTINGS = ("run", "sweep", "target", "results_dir", "allow_targets")  # what was measured, not how


def measure(config: LoadConfig) -> None:
    """Measure what a config names, and save the results.

    Raises:
        UserError: it names nothing or two things, or what it names cannot be measured.
    """
    named = [key for key in ("run", "sweep", "target") if getattr(config, key)]
    if len(named) != 1:
        raise UserError(
            f"name one of run, sweep and target, not {' and '.join(named) or 'none'}; --help shows examples."
        )
    store = ResultStore(config.results_dir)
    if config.target:
        measure_target(store, config, config.target)
    elif config.sweep:
        measure_sweep(store, config, config.sweep)
    elif config.run:
        measure_run(store, config, config.run)


def measure_sweep(store: ResultStore, config: LoadConfig, sweep: str) -> None:
    """Measure one run of each system that has a cost of its own: batch strategies and seeds share it.

    What was measured with these settings is left out; BM25 and variants without embeddings are named.
    """
    subjects: dict[Any, Record] = {}
    for state in store.runs(sweep):
        if record := state.record:
            cost = record.profile.encoder_key if record.profile else record.name
            subjects.setdefault((cost, record.variant), record)
    if not subjects:
        raise UserError(f"sweep {sweep} in {store.root} has no finished run.")
    for record in subjects.values():
        known = capacity.read(store.root, record.name)
        if known and known.settings == settings_of(config):
            print(f"load · {record.name} · measured before", flush=True)
            continue
        try:
            measure_run(store, config, record.name)
        except UserError as error:
            print(f"load · {record.name} · left out: {error}", flush=True)


def measure_run(store: ResultStore, config: LoadConfig, run: str) -> None:
    """Measure a run, or an exported folder, in this process."""
    folder = "/" in run
    record = None if folder else store.load(run)
    texts, described = texts_of(config, record)
    retriever = encoders.load(store, run, device=config.device.name, threads=config.threads)
    search, index = None, None
    if config.index_rows:
        variant = None if record is None else encoders.variant_of(record)
        index = config.index or (variant.index if variant else "exact")
        search, index = search_of(retriever, texts, config, index)
    system = systems.InProcess(retriever, encoders.limits(config), search)
    try:
        with store.machine(alone=True):
            facts = {"texts": described, "index": index}
            device = config.device.name
            finish(store, config, retriever.name, system, systems.Null(), texts, facts, device, tracker_of(config))
    finally:
        system.stop()


def measure_target(store: ResultStore, config: LoadConfig, target: str) -> capacity.Capacity:
    """Measure a server, and return its result."""
    if config.index_rows:
        raise UserError(f"index_rows={config.index_rows}: a search is measured in process; set it to 0 for a target.")
    texts, described = texts_of(config, None)
    server = systems.connect(target, config.model_name, calls_at_once(config), sided=config.input_type)
    name = re.sub(r"[^\w.-]+", "-", server.client.base_url.netloc.decode()).strip("-")
    null = None
    try:
        null = systems.canned(server.embed(next(iter(texts.values()))["query"][:1], "query").shape[1])
        return finish(store, config, name, server, null, texts, {"texts": described, "index": None})
    except systems.Refused:
        raise UserError(f"target={target} refuses a single query: is it overloaded?") from None
    finally:
        server.stop()
        if null:
            null.stop()


def finish(
    store: ResultStore,
    config: LoadConfig,
    name: str,
    system: systems.System,
    null: systems.System,
    texts: Texts,
    facts: Mapping[str, Any],
    device: str | None = None,
    tracker: Tracker | None = None,
) -> capacity.Capacity:
    """Measure a system, save the result, say it, and return it. `device` and `tracker` are those of `meter.measure`."""
    of_side: dict[Side, Sequence[str]] = {"query": flat(texts, "query"), "passage": flat(texts, "passage")}
    facts = {**facts, "settings": settings_of(config), "machine": machine_of(config)}
    folder = capacity.folder(store.root, name)
    result = measure_system(name, system, null, of_side, plan_of(config), folder, facts, device=device, tracker=tracker)
    path = capacity.save(store.root, result)
    print("\n".join(sentences(result)))
    print(f"load · {name} · {path}", flush=True)
    return result


def tracker_of(config: LoadConfig) -> Tracker | None:
    """Return what measures the energy of this process; None on a GPU whose counter cannot be read."""
    on_gpu = config.device.name == "cuda"
    return None if on_gpu and nvidia.problem() else Tracker(COUNTRY, nvidia.energy_j if on_gpu else None)


def flat(texts: Texts, side: Side) -> list[str]:
    """Return the texts of one side, over the languages in turn."""
    return [text for _, text in round_robin({language: sides[side] for language, sides in texts.items()})]


def sentences(result: capacity.Capacity) -> list[str]:
    """Return what a reader must know of a result."""
    if result.queries_per_s_at_p99 is None:
        text = [f"{result.name} holds a p99 of {result.p99_ms:g} ms at no rate that was tried."]
    else:
        text = [f"{result.name} carries {result.queries_per_s_at_p99:.4g} queries/s at a p99 of {result.p99_ms:g} ms."]
    if len(result.rounds) > 1:
        text.append(f"Rounds: {', '.join('none' if rate is None else f'{rate:.4g}' for rate in result.rounds)}.")
    if result.failed_checks:
        text.append(f"Quality checks that failed: {', '.join(result.failed_checks)}; load.json says what they saw.")
    if result.null:
        null = f"{result.null.p99_ms:.3g} ms at {result.null.rate_per_s:.4g} queries/s"
        text.append(f"The generator alone has a p99 of {null}.")
    if not result.by_the_rules:
        rules = f"{capacity.MLPERF_SECONDS} s and {capacity.JUDGED} queries"
        text.append(f"Its tests are shorter than MLPerf Inference's rules ask: {rules}.")
    return text


def texts_of(config: LoadConfig, record: Record | None) -> tuple[Texts, dict[str, Any]]:
    """Return the texts of `eval`, or of the first benchmark of the run, as profiles use them, and their description."""
    nodes = config.eval or (from_plain(record.config).eval if record else {})
    if not nodes:
        raise UserError("eval: name the benchmark whose queries are sent, as in eval=worldfacts.")
    name, node = next(iter(nodes.items()))
    check_target(f"eval.{name}", node, config.allow_targets)
    benchmark: Collection = build(f"eval.{name}", node)
    texts = sample_texts(benchmark)
    queries, passages = (sum(len(sides[side]) for sides in texts.values()) for side in ("query", "passage"))
    described = {"benchmark": benchmark.name, "languages": [*texts], "queries": queries, "passages": passages}
    return texts, described


def search_of(
    retriever: encoders.Retriever, texts: Texts, config: LoadConfig, index: str
) -> tuple[systems.Search, str]:
    """Return the search of an index of `index_rows` passages, made as the index meter makes it; and its description."""
    from pipeline.profiling.meters.index import filled
    from pipeline.retrieval.faiss_index import build_index

    factory = index.replace("exact", "Flat")
    print(f"load · {retriever.name} · building {factory} of {config.index_rows:,} passages", flush=True)
    emb_ND = encoders.truncated(
        encode(retriever.encoders["passage"], flat(texts, "passage"), "passage"), retriever.width
    )
    built = build_index(filled(emb_ND, config.index_rows, config.seed), factory)
    return systems.Search(built, config.threads), f"{factory}, {config.index_rows} vectors of {retriever.width}"


def calls_at_once(config: LoadConfig) -> int:
    """Return the most calls that can wait or be at work, and one more: the first that is refused."""
    return config.queue + config.max_batch + 1


def plan_of(config: LoadConfig) -> Plan:
    """Return how to measure."""
    limits = Settings(
        scenario="Server",
        rate_per_s=1.0,
        p99_ms=config.p99_ms,
        min_seconds=config.min_seconds,
        min_queries=config.min_queries,
        at_once=calls_at_once(config),
        offline_at_once=min(OFFLINE_CALLS, max(config.queue // config.max_batch, 1)),
        per_call=config.max_batch,
        seed=config.seed,
    )
    return Plan(limits, config.rounds, config.tolerance)


def settings_of(config: LoadConfig) -> dict[str, Any]:
    """Return the settings of a result, as JSON values."""
    values = {key: value for key, value in asdict(config).items() if key not in NOT_SETTINGS}
    return values | {"device": config.device.name}


def machine_of(config: LoadConfig) -> dict[str, Any]:
    """Return the facts of the machine, threads, and versions."""
    versions = {"loadgen": installed("mlcommons-loadgen"), "python": platform.python_version()}
    return {**machine.facts(config.device.name), "threads": config.threads, **versions}

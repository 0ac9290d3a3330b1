"""`python -m pipeline.recommend SWEEP p95_ms=20`: name the system to deploy within limits on latency, memory, money.

Reads a sweep's records and answers in sentences: the most accurate system within the limits, the runner-up, what a
looser limit would bring, and how sure that is (analysis.recommendation). conf/recommend.yaml lists the keys.
"""

import sys
from dataclasses import make_dataclass
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pipeline.analysis.costs import COSTS
from pipeline.analysis.fleet import Load
from pipeline.analysis.recommendation import Recommendation, recommend
from pipeline.bounds import LARGEST, bounded, check_numbers
from pipeline.launch.commands import command, refusing, sweep_first
from pipeline.launch.composing import start
from pipeline.reporting.config import SweepConfig
from pipeline.store.results import ResultStore
from pipeline.values import CONF, UserError

LIMITS = {cost.option: cost for cost in COSTS if cost.option}
KEYS = [
    ("accuracy", str | None, None),
    ("qps", float | None, bounded(0, LARGEST, above=True, default=None)),
    ("p99_ms", float | None, bounded(0, LARGEST, above=True, default=None)),
    *((option, float | None, bounded(0, LARGEST, default=None)) for option in LIMITS),
]
RecommendConfig = make_dataclass("RecommendConfig", KEYS, bases=(SweepConfig,))
ConfigStore.instance().store(name="recommend_schema", node=RecommendConfig)


def answer(cfg: DictConfig) -> Recommendation:
    """Return the recommendation that the composed conf/recommend.yaml asks for."""
    request = cast(Any, OmegaConf.to_object(cfg))
    check_numbers(request)
    limits = {cost: most for option, cost in LIMITS.items() if (most := getattr(request, option)) is not None}
    if request.p99_ms is not None and request.qps is None:
        raise UserError(f"p99_ms={request.p99_ms:g} is the limit of a load: set qps too, as in qps=100 p99_ms=50.")
    load = None if request.qps is None else Load(request.qps, request.p99_ms)
    store = ResultStore(request.results_dir)
    return recommend(store, request.sweep, request.accuracy, limits, request.prices, request.scenario, load)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="recommend")
def job(cfg: DictConfig) -> None:
    """Print the recommendation; exit with 1 if nothing is within the limits."""
    with refusing():  # here, since Hydra would name the overrides before the sentence
        recommendation = answer(cfg)
    print("\n".join(recommendation.sentences))
    if recommendation.run is None:
        sys.exit(1)
    store = ResultStore(cfg.results_dir)
    if store.exportable(store.load(recommendation.run)):
        folder = "" if cfg.results_dir == "results" else f" results_dir={cfg.results_dir}"
        print(f"\nExport it: python -m pipeline.export {recommendation.run} to=my-retriever{folder}")


def main() -> None:
    with command():
        sweep_first()
        start(job, "recommend")


if __name__ == "__main__":
    main()

"""What a run is asked to do: its config, its name, and the cache keys of its stages. Made by the parent, without torch.

The table of what each stage's result follows from is `stage_inputs`; docs/design.md draws it.
"""

import json
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hydra.utils import get_object

from pipeline.config import Config, from_plain, plain
from pipeline.groups import DistillConfig, StepsConfig, TrainerConfig
from pipeline.launch.hardware import has_bfloat16, resolve
from pipeline.launch.lexical import check_lexical
from pipeline.retrieval.metrics import metric
from pipeline.store import keys
from pipeline.store.keys import cache_key, follow, target_modules
from pipeline.store.names import check_name, check_run, check_sweep
from pipeline.store.results import ResultStore
from pipeline.values import LEXICAL, USE, Variant

# Modules from which each stage's code is followed (store.keys.closure); those named by a `_target_` are added.
START = ["pipeline.encoder.sources"]
TEACH = [*START, "pipeline.training.teacher", "pipeline.encoder.starts"]
DISTILL = ["pipeline.training.distillation"]
PACKAGED_USE = ["pipeline.encoder.use"]
STATIC = ["pipeline.encoder.static_start", "pipeline.encoder.starts"]
TRAIN = ["pipeline.training.fit", "pipeline.sampling.strategy"]
LEAKAGE = ["pipeline.data.leakage"]
ENCODE = ["pipeline.encoder.deploy", "pipeline.encoder.worker"]
RANK = ["pipeline.retrieval.ranking"]
SCORE = ["pipeline.retrieval.scoring"]
PROFILE = ["pipeline.profiling"]  # the whole package: meters are imported by name
DEPLOY = ["pipeline.encoder.deploy"]
BM25 = ["pipeline.retrieval.lexical"]
FUSION = ["pipeline.retrieval.fusion"]
SERVED, FUSED = ["pipeline.retrieval.lexical_served"], ["pipeline.retrieval.fusion_served"]  # imported by name
BACKENDS = "pipeline.encoder.backends"

# Trainer keys that change memory, speed, safety or what is shown, and a result by rounding at most.
HARMLESS = {"checkpoint_every", "log_every"}
PARTITION = {"forward_tokens", "grad_cache"}  # harmless too, unless dropout masks follow the partition of a batch


Training = TypeVar("Training", bound=StepsConfig)


@dataclass(frozen=True)
class Request:
    """All that a child process is told; crosses as JSON.

    Attributes:
        name: of the run as trained. Variants add to it (Variant.run_name).
        keys: cache keys by stage: teach, distill, static (of distilled starts), train, profile, score; leakage, encode
            and rank by benchmark, as in rank.worldfacts.
        inputs: all that the run's records follow from, flat enough to be compared key by key.
        choices: the options of Hydra's groups: model, sampler, data, …
        halvings: how often the tokens per forward pass were halved after running out of memory.
    """

    name: str
    keys: Mapping[str, str]
    inputs: Mapping[str, Any]
    config: Config
    choices: Mapping[str, str]
    halvings: int = 0

    @property
    def run_names(self) -> list[str]:
        """The runs that this request makes: as trained first, then each inference variant."""
        return [variant.run_name(self.name) for variant in self.config.inference_variants()]

    def record_key(self, variant: str, query_encoder: str | None = None) -> str:
        """Return the cache key of the record of one inference variant, by its label and query encoder."""
        return cache_key([self.inputs, variant, query_encoder])

    @property
    def trainer(self) -> TrainerConfig:
        """The config's trainer, after running out of memory with fewer tokens per forward pass and GradCache."""
        return halved(self.config.trainer, self.halvings)

    @property
    def distill(self) -> DistillConfig | None:
        """The config's distillation, likewise."""
        distill = self.config.model.distill
        return distill and halved(distill, self.halvings)

    def halved(self) -> "Request":
        """The next attempt after running out of memory. With dropout its training has a cache key of its own."""
        request = replace(self, halvings=self.halvings + 1)
        model = replace(self.config.model, distill=request.distill)
        config = replace(self.config, trainer=request.trainer, model=model)
        return replace(request, keys=stage_keys(stage_inputs(config)))

    def to_json(self) -> str:
        return json.dumps(vars(self) | {"config": plain(self.config)})

    @classmethod
    def from_json(cls, text: str) -> "Request":
        values = json.loads(text)
        return cls(**values | {"config": from_plain(values["config"])})


def halved(training: Training, halvings: int) -> Training:
    """Return a training with fewer tokens per forward pass and, if there are fewer, GradCache."""
    if not halvings:
        return training
    return replace(training, forward_tokens=training.forward_tokens >> halvings, grad_cache=True)


def make_request(config: Config, choices: Mapping[str, str]) -> Request:
    """Resolve the config for this machine, and name the run after all that it follows from.

    Raises:
        UserError: for an unknown metric, a name that no sweep may have, or a query encoder that is no finished run.
    """
    for name in config.metrics:
        metric(name)
    for name in config.eval:
        check_name("eval", name)
    check_sweep("sweep", config.sweep)
    if config.costs_from is not None:
        check_sweep("costs_from", config.costs_from)
    for query_encoder in {variant.query_encoder for variant in config.inference_variants()} - {None}:
        ResultStore(config.results_dir).load(str(query_encoder))
    config = resolve(config)
    check_lexical(config, trains=trains(config))
    if choices["model"] == "hub":
        choices = {**choices, "model": re.sub(r"[^\w.-]+", "-", Path(config.model.weights).resolve().name).strip("-.")}
    if not reads_data(config):
        choices = {**choices, "data": "none"}  # no training set has a part in the run
    stages = stage_inputs(config)
    inputs = run_inputs(config, stages)
    name = f"{choices['model']}-{choices['sampler']}-{choices['data']}-s{config.seed}-{cache_key(inputs)[:8]}"
    check_run("run", name)
    return Request(name, stage_keys(stages), inputs, config, dict(choices))


def trains(config: Config) -> bool:
    """Whether a run trains its encoder: not with sampler=none, and not random weights, which have no accuracy."""
    return get_object(config.sampler["_target_"]).trains and not config.model.cost_only


def reads_data(config: Config) -> bool:
    """Whether the training set has a part in a run."""
    return trains(config) or (config.model.distill is not None and config.model.distill.lines is None)


def stage_inputs(config: Config) -> dict[str, dict[str, Any]]:
    """What the result of each stage follows from: parts of the config, code, library versions.

    A new sampler or meter file, a docstring or a comment changes none of the others' inputs; a metric changes `score`
    alone. An untrained encoder follows from its model only, so all seeds and trainers share its rankings.
    """
    settings = keys.contents(plain(config))
    model, data = model_inputs(settings["model"]), settings["data"]
    is_lexical = config.model.weights == LEXICAL
    start = {"model": model, **follow(BM25 if is_lexical else START)}
    inputs: dict[str, dict[str, Any]] = {}
    if config.model.weights == "random":
        start["seed"] = config.seed
    elif config.model.weights == USE:
        start |= follow([*START, *PACKAGED_USE])
    elif config.model.static:
        inputs["static"] = static_inputs(settings)
        start["static"] = cache_key(inputs["static"])
    machine = {name: settings[name] for name in ("device", "threads")}
    if config.model.distill:
        inputs["teach"] = teach_inputs(config, settings) | machine
        start = {"model": model, "teach": cache_key(inputs["teach"]), **machine}
        start |= follow([*START, *DISTILL])
        inputs["distill"] = start
    train = start
    if trains(config):
        parts = {name: settings[name] for name in ("sampler", "data", "seed", "device", "threads")}
        modules = [*START, *TRAIN, *target_modules(config.sampler), *target_modules(config.data)]
        parts["start"] = cache_key(start)
        train = {"model": model, **parts, "trainer": trainer_inputs(config), **follow(modules)}
    inputs["train"] = train
    for name, node in settings["eval"].items():
        here = target_modules(node)
        leak = {"data": data, "eval": node, **follow([*LEAKAGE, *target_modules(data), *here])}
        inputs[f"leakage.{name}"] = leak
        if config.model.distill:
            inputs[f"leakage.distill.{name}"] = {**leak, "lines": model["distill"]["lines"]}
        stored = {"precision": settings["encode"]["precision"]}
        encode = {"encoder": cache_key(train), "eval": node, **machine, **stored, **follow([*ENCODE, *here])}
        inputs[f"encode.{name}"] = encode
        inputs[f"rank.{name}"] = {"embeddings": cache_key(encode), **follow([*RANK, *here])}
        if is_lexical:
            inputs[f"rank.{name}"] = {"bm25": start, "eval": node, **follow([*BM25, *here])}
    inputs["score"] = {"metrics": settings["metrics"], **follow(SCORE)}
    meters = [*PROFILE, *(SERVED if is_lexical else [])]
    inputs["profile"] = {"profile": settings["profile"], **machine, **follow(meters)}
    inputs["profile"]["libraries"]["python"] = ".".join(platform.python_version_tuple()[:2])  # slows what it measures
    return inputs


def teach_inputs(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the teacher's vectors follow from; whatever the student is, it learns the same."""
    model, distill = settings["model"], settings["model"]["distill"]
    itself = {**model, "layers": None, "kept_layers": "first", "distill": None}
    teacher: dict[str, Any] = {"teacher": distill["teacher"] or itself}
    texts: dict[str, Any] = {name: distill[name] for name in ("source_language", "sides", "lines")}
    modules = [*TEACH]
    if distill["lines"] is None:
        texts["data"] = settings["data"]
        modules += target_modules(config.data)
    else:
        modules.append("pipeline.data.plain_lines")
    return teacher | texts | follow(modules)


def model_inputs(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a model's config without what changes its distillation by rounding at most."""
    if model["distill"] is None:
        return model
    harmless = HARMLESS if model["distill"]["dropout"] != 0 else HARMLESS | PARTITION
    return {**model, "distill": {key: value for key, value in model["distill"].items() if key not in harmless}}


def static_inputs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a distilled table follows from: the teacher's weights, whatever reads the table, and how it is distilled."""
    model = {name: settings["model"][name] for name in ("weights", "revision", "precision", "layers", "static")}
    return {"model": model, "device": settings["device"], "threads": settings["threads"], **follow([*START, *STATIC])}


def trainer_inputs(config: Config) -> dict[str, Any]:
    left_out = HARMLESS if config.trainer.dropout != 0 else HARMLESS | PARTITION
    return {key: value for key, value in plain(config)["trainer"].items() if key not in left_out}


def stage_keys(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The cache key of each stage, from `stage_inputs`."""
    return {stage: cache_key(inputs) for stage, inputs in stages.items()}


def run_inputs(config: Config, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All that a run's records follow from; seeds and strategies count even where a stage is shared."""
    settings = keys.contents(plain(config))
    names = ("model", "sampler", "data", "eval", "metrics", "profile", "seed", "device", "threads")
    stored = {"encode.precision": settings["encode"]["precision"]}
    code = {module: value for inputs in stages.values() for module, value in inputs["code"].items()}
    libraries = {name: value for inputs in stages.values() for name, value in inputs["libraries"].items()}
    parts = {name: settings[name] for name in names} | {"trainer": trainer_inputs(config)} | stored
    parts["model"] = model_inputs(settings["model"])
    if not trains(config):
        parts["trainer"] = None
    if not reads_data(config):
        parts["data"] = None
    return parts | {"code": dict(sorted(code.items())), "libraries": dict(sorted(libraries.items()))}


def variant_key(rank_key: str, variant: Variant) -> str:
    """Cache key of one benchmark's rankings by one inference variant."""
    further = {name: getattr(variant, name) for name in ("centre", "query_encoder") if getattr(variant, name)}
    fused = fusion_inputs(variant, FUSION)
    return cache_key([rank_key, engine_inputs(variant), variant.width, variant.index, further, *fused])


def encode_key(key: str, variant: Variant) -> str:
    """Cache key of one benchmark's embeddings, which all widths and indexes of a variant's engine share.

    Args:
        key: of the benchmark's stage `encode`.
    """
    return cache_key([key, engine_inputs(variant)])


def engine_inputs(variant: Variant) -> dict[str, Any]:
    """What the arithmetic of a variant's engine follows from, beside the encoder."""
    return {"engine": variant.engine, **follow([f"{BACKENDS}.{variant.backend}"])}


def fusion_inputs(variant: Variant, modules: list[str]) -> list[Any]:
    """What a fused variant's rankings (FUSION) or costs (FUSED) follow from in addition; nothing for all others."""
    return [{"fusion": variant.fusion, **follow(modules)}] if variant.fusion else []


def deploy_key(request: Request, variant: Variant) -> str:
    """Cache key of a trained encoder's folder for a variant's engine."""
    return cache_key([request.keys["train"], engine_inputs(variant), follow(DEPLOY)])


def unavailable_key(config: Config, variant: Variant) -> str:
    """Cache key of the finding that this machine lacks what an engine needs; another once it is installed."""
    machine = [has_bfloat16(config.device), shutil.which("c++"), config.device.name]
    return cache_key([engine_inputs(variant), machine])

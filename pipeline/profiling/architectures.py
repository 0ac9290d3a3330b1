"""What architectures cost by themselves, on made-up texts with the lengths of real texts: no data, no weights, no hub.

The work of the command `profile_model`. Needs torch, transformers, pandas and hydra-core, no more; a figure that needs
another library is left out, with the reason. torch is imported where it is used, so that --help does not wait for it.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.bounds import COUNT, bounded, check_numbers
from pipeline.encoder.engine import has_bfloat16, require_device
from pipeline.groups import ModelConfig, ProfileConfig
from pipeline.profiling import machine, words
from pipeline.profiling.measure import PROFILED_TEXTS, measure
from pipeline.profiling.meter import Job, Settings, names
from pipeline.store.files import read_again, write_csv, write_json
from pipeline.store.keys import cache_key
from pipeline.store.records import Profile, figures
from pipeline.values import UserError, Variant

LENGTHS = ("max_query_tokens", "max_passage_tokens")
NOTE = "Texts are made-up words of one token each, with the lengths of real texts; real tokenizers take longer."


@dataclass
class ArchitectureConfig:
    """conf/profile_model.yaml, which explains every key."""

    model: ModelConfig = field(default_factory=ModelConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    texts: dict[str, dict[str, list[int]]] = bounded(1, 10**6)  # language -> side -> tokens of each text
    weights: str = MISSING
    device: str = MISSING
    precision: str = MISSING
    threads: int = bounded(1, 1024)
    seed: int = bounded(0, 2**32 - 1)
    results_dir: str = MISSING
    token_budgets: dict[str, list[int]] = bounded(1, COUNT)  # by device


def check(cfg: DictConfig) -> ArchitectureConfig:
    """Return the typed config.

    Raises:
        UserError: for the first impossible value.
    """
    if cfg.weights != "random":
        raise UserError(
            f"weights={cfg.weights}: architectures are profiled with random weights (pipeline.run has others)."
        )
    for name, values in {"device": ("cpu", "cuda"), "precision": ("float32", "bfloat16")}.items():
        if cfg[name] not in values:
            raise UserError(f"{name}={cfg[name]}: it must be {' or '.join(values)}.")
    config = cast(
        ArchitectureConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ArchitectureConfig), cfg))
    )
    check_numbers(config)
    if cfg.model.family == "bm25":  # `weights` is that of the command by now
        raise UserError("model=bm25: BM25 has no architecture; pipeline.run model=bm25 sampler=none profiles it.")
    for key in LENGTHS:
        if getattr(config.model, key) is None:
            raise UserError(f"model.{key}=null: made-up texts need a length.")
    if not config.profile.token_budgets:
        raise UserError("profile.token_budgets is empty: the throughput curve needs a point.")
    require_device(cfg.device)
    import torch

    if cfg.precision == "bfloat16" and not has_bfloat16(torch.device(cfg.device)):
        raise UserError("precision=bfloat16: this machine lacks bfloat16 instructions and would emulate them slowly.")
    return config


class Comparison:
    """Architectures side by side: each profile is saved when it is measured, and printed with the others at the end."""

    def __init__(self) -> None:
        self.profiles: dict[str, Profile] = {}
        self.failures: dict[str, str] = {}

    def add(self, model: str, config: ArchitectureConfig) -> None:
        """Profile one architecture, whose config file is called `model`."""
        folder = Path(config.results_dir, "profiles-cli")
        plain = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True))
        del plain["results_dir"]
        name = f"{model}-{config.precision}-{cache_key([plain, machine.facts(config.device)])[:8]}"
        print(f"profile · {name} · random weights", file=sys.stderr, flush=True)
        try:
            self.profiles[name] = profile(config, Progress(name, config.profile.rounds))
            save(folder, name, plain, self.profiles[name])
        except RuntimeError as error:
            self.failures[name] = str(error)

    def show(self) -> int:
        """Print the profiles as a table and the failures; return the exit code."""
        if self.profiles:
            print(table(self.profiles))
        for name, reason in self.failures.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        return 1 if self.failures else 0


class Progress:
    """Prints the start of each meter on stderr, and from the second round on how long the others will take."""

    def __init__(self, name: str, rounds: int):
        self.name, self.rounds = name, rounds
        self.start_s = time.monotonic()

    def __call__(self, number: int, meter: str) -> None:
        """Announce a meter of the round `number`, counted from 0."""
        line, now_s = f"profile · {self.name} · round {number + 1} of {self.rounds} · {meter}", time.monotonic()
        if number and meter == names()[0]:
            left_s = (now_s - self.start_s) / number * (self.rounds - number)
            line += f" · about {left_s:.0f} s to go"
        print(line, file=sys.stderr, flush=True)


def profile(config: ArchitectureConfig, starting: Progress) -> Profile:
    """Measure one architecture with random weights; `starting` as of `measure`."""
    from pipeline.encoder.deploy import save as save_encoder
    from pipeline.encoder.sources import load

    texts = words.texts(config.texts, PROFILED_TEXTS, config.model.architecture["vocab_size"], config.seed)
    variant = Variant(precision=config.precision)
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(load(config.model, seed=config.seed, random_tokenizer=words.tokenizer), variant, Path(folder))
        job = Job(
            folder,
            texts,
            Settings.of(config.profile),
            threads=config.threads,
            device=config.device,
            seed=config.seed,
            variant=variant,
            made_up_words=True,
        )
        return measure(job, starting)


def save(folder: Path, name: str, config: Mapping[str, Any], profile: Profile) -> None:
    """Write one profile as JSON, and all profiles of the folder as profiles.csv, one per row."""
    write_json(folder / f"{name}.json", {"name": name, "note": NOTE, "config": config, "profile": asdict(profile)})
    rows = []
    for saved in filter(None, map(read_again, sorted(folder.glob("[!.]*.json")))):
        facts = saved["profile"]["details"]["machine"]
        row = {"name": saved["name"], "note": saved["note"], "machine": facts.get("gpu", facts["cpu"])}
        row |= {key: saved["config"][key] for key in ("device", "precision", "threads")}
        rows.append(row | figures(saved["profile"]))
    write_csv(folder / "profiles.csv", pd.DataFrame(rows))


def table(profiles: Mapping[str, Profile]) -> str:
    """Return one column per profile; below, which quality checks failed and what was not measured, and why."""
    fields = [
        name
        for name in Profile.__dataclass_fields__
        if name not in ("sources", "details", "relative_errors", "encoder_key")
    ]
    columns = {name: [_shown(getattr(profile, field)) for field in fields] for name, profile in profiles.items()}
    sentences = [NOTE]
    reasons: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        if profile.failed_checks:
            sentences.append(f"{name} failed the quality checks: {', '.join(profile.failed_checks)}.")
        for field_name, source in profile.sources.items():
            if getattr(profile, field_name) is None and field_name not in reasons.setdefault(source, []):
                reasons[source].append(field_name)
    sentences += [f"{', '.join(names)}: {source}." for source, names in reasons.items() if names]
    return "\n".join([pd.DataFrame(columns, index=fields).to_string(), *sentences])


def _shown(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"

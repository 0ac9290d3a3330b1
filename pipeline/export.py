"""`python -m pipeline.export RUN [to=FOLDER] [results_dir=results]`: a run's encoder for everyone else's tools.

Reads a record and its stage's weights; writes a folder that `SentenceTransformer(FOLDER)` loads, with a model card that
holds the run's figures. The embeddings are the same (tested), for texts within both maximum lengths.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from pipeline.encoder import model as encoders
from pipeline.launch.commands import arguments, refusing
from pipeline.store.results import ResultStore
from pipeline.values import Record, UserError

USAGE = "usage: python -m pipeline.export RUN [to=FOLDER] [results_dir=results]; RUN is a folder of results/runs."
MODULES = ("Transformer", "Pooling", "Normalize")  # of sentence-transformers, in this order
SHOWN = {  # of a profile, in the card
    "query_latency_p50_ms": "query latency, p50 (ms)",
    "query_latency_p95_ms": "query latency, p95 (ms)",
    "passages_per_s": "passages a second",
    "peak_rss_mib": "peak memory (MiB)",
    "energy_j_per_1k_queries": "energy per 1,000 queries (J)",
}


def export(store: ResultStore, name: str, folder: Path) -> None:
    """Write the whole folder or nothing; UserError where it exists, or the run or its weights are missing."""
    if folder.exists():
        raise UserError(f"{folder} exists already: name another with to=.")
    record = store.load(name)
    encoder = encoders.load(**record.config["model"], seed=record.seed)
    if record.training:
        encoder.restore(store.stage_dir("train", record.provenance["stages"]["train"]) / "encoder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        fill(temporary, encoder, record)
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def fill(folder: Path, encoder: encoders.Encoder, record: Record) -> None:
    """The format of sentence-transformers: a transformers model, and a json file for each module after it."""
    encoder.backbone.save_pretrained(folder)
    pad_token = encoder.tokenizer.id_to_token(encoder.pad_id)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, pad_token=pad_token)
    tokenizer.model_max_length = encoder.max_tokens["passage"]
    tokenizer.save_pretrained(folder)
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{module}"}
        for n, (path, module) in enumerate(zip(paths, MODULES, strict=True))
    ]
    pooling = {"word_embedding_dimension": encoder.width}
    pooling |= {f"pooling_mode_{mode}": mode.startswith(encoder.pooling) for mode in ("mean_tokens", "cls_token")}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": encoder.max_tokens["passage"], "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": encoder.prefixes["query"], "document": encoder.prefixes["passage"]},
            "similarity_fn_name": "cosine",
        },
    }
    for path in paths[1:]:
        (folder / path).mkdir()
    for path, content in files.items():
        (folder / path).write_text(json.dumps(content, indent=2))
    (folder / "README.md").write_text(card(record))


def card(record: Record) -> str:
    """The hub's model card: what it is, what it scored, what it costs, how to use it."""
    choices = record.choices
    metrics = [f"| {key} | {value:.4f} |" for key, value in record.metrics.items()]
    costs = [
        f"| {label} | {value:.4g} | {record.profile.sources[field].split(':')[0]} |"
        for field, label in SHOWN.items()
        if record.profile and (value := getattr(record.profile, field)) is not None
    ]
    served = [] if record.served == "as trained" else [f"Figures are of this encoder served as: {record.served}.", ""]
    return "\n".join(
        [
            "---",
            "library_name: sentence-transformers",
            "pipeline_tag: sentence-similarity",
            f"base_model: {record.config['model']['weights']}",
            "---",
            f"# {record.name}",
            "",
            f"{choices['model']}, {record.provenance['layers']} layers, trained with {choices['sampler']} batches on "
            f"{choices['data']}, seed {record.seed}; commit {record.provenance['commit']}.",
            "",
            "```python",
            "from sentence_transformers import SentenceTransformer",
            "",
            "model = SentenceTransformer('.')",
            "scores = model.encode_query(['…']) @ model.encode_document(['…']).T",
            "```",
            f"Figures were taken with queries cut to {record.config['model']['max_query_tokens']} tokens.",
            "",
            *served,
            *record.notes,
            "",
            "| metric | mean |",
            "|---|---|",
            *metrics,
            "",
            "| cost | value | how |",
            "|---|---|---|",
            *costs,
            "",
        ]
    )


def main() -> None:
    with refusing():
        name, given = arguments(USAGE, "to", "results_dir")
        folder = Path(given.get("to", name))
        export(ResultStore(given.get("results_dir", "results")), name, folder)
        print(folder)


if __name__ == "__main__":
    main()

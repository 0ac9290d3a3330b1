"""The model card of an exported encoder: what it is, how well it retrieves, what it costs, how to use it.

The command `pipeline.export` writes it beside the weights.
"""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import ModelCardData

from pipeline.analysis.costs import COSTS
from pipeline.store.progress import counted
from pipeline.store.records import Record
from pipeline.values import Variant

QUERIES = "query_encoder"  # the folder, in an exported one, of another encoder for queries
USAGE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('.')
scores = model.encode_query(['…']) @ model.encode_document(['…']).T
```"""

CENTRING = {
    "passages": "Index: of each passage the mean vector of its language was subtracted, the mean "
    "of these means added, and the length made 1 again",
    "both": "Index: of each passage and query the mean vector of the passages in its language "
    "was subtracted, and the length made 1 again; a search has to know each query's language",
}


def card(record: Record, variant: Variant, base: str | None, license: str | None) -> str:
    """Return a model card in the Hugging Face hub's format, from the record of a run.

    Args:
        variant: the inference variant that the run is.
        base: the repository of the base model on the hub; None if it is a local folder.
        license: of the base model, by its name on the hub; None if it is not known.
    """
    data = record.provenance.get("data")
    metadata = ModelCardData(
        base_model=base,
        language=data and data["languages"],
        license=license,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
    )
    metrics = [f"| {name} | {value:.4f} |" for name, value in record.metrics.items()]
    lines = [
        "---",
        metadata.to_yaml(),
        "---",
        f"# {record.name}",
        "",
        USAGE,
        *(f"- {line}" for line in facts(record, variant, base, license)),
        "",
        *record.notes,
        "",
        "| metric | mean |",
        "|---|---|",
        *metrics,
        "",
        "| cost | value | source |",
        "|---|---|---|",
        *cost_rows(record),
        "",
    ]
    return "\n".join(lines)


def facts(record: Record, variant: Variant, base: str | None, license: str | None) -> Iterator[str]:
    """Yield what the encoder is made of, a line each."""
    choices, model = record.choices, record.config["model"]
    layers = counted(record.provenance["layers"], "layer")
    yield f"Base model: {base or public(model['weights'])}, {layers} ({choices['model']})"
    yield f"Licence of the base model: {license or 'not known'}"
    if distill := model.get("distill"):
        teacher = public(distill["teacher"]) if distill["teacher"] else "all layers of the base model"
        yield f"Distilled from {teacher} in {distill['steps']} steps"
    if data := record.provenance.get("data"):
        yield f"Training data: {counted(data['rows'], 'row')} of {data['name']} in {', '.join(data['languages'])}"
    if record.training:
        yield f"Batches: {choices['sampler']}; seed {record.seed}"
    elif not distill:
        yield "Not trained any further"
    if variant != Variant():
        yield f"Costs and metrics are those of the inference variant {variant.label}"
    if variant.query_encoder:
        yield f"Encode queries with the encoder in the folder {QUERIES}, passages with this one"
    if variant.centre:
        yield CENTRING[variant.centre]
    if model["max_query_tokens"]:
        yield f"Evaluated with queries truncated to {model['max_query_tokens']} tokens"
    yield f"Made at commit {record.provenance['commit']}"


def public(weights: str) -> str:
    """Return what names weights elsewhere too: of a local folder, which tells whose machine it lies on, the last part.

    >>> public("/home/ada/models/mine"), public("owner/name")
    ('mine', 'owner/name')
    """
    return Path(weights).name if Path(weights).is_absolute() else weights


def cost_rows(record: Record) -> list[str]:
    """Return a table row per cost of the card that was measured or modelled."""
    if not record.profile:
        return []
    costs = [(cost, cost.of(record.profile)) for cost in COSTS if cost.in_card]
    sources = record.profile.sources
    return [
        f"| {cost.label} | {value:.4g} | {sources[cost.source_field].partition(':')[0]} |"
        for cost, value in costs
        if value is not None
    ]

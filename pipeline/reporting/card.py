"""The model card of an exported encoder: what it is, how well it retrieves, what it costs, how to use it.

The command `pipeline.export` writes it beside the weights.
"""

from pipeline.analysis.costs import COSTS
from pipeline.store.records import AS_TRAINED, Record

USAGE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('.')
scores = model.encode_query(['…']) @ model.encode_document(['…']).T
```"""


def card(record: Record) -> str:
    """Return a model card in the Hugging Face hub's format, from the record of a run."""
    choices, model = record.choices, record.config["model"]
    metrics = [f"| {name} | {value:.4f} |" for name, value in record.metrics.items()]
    deployed = [] if record.variant == AS_TRAINED else [f"Measured on this inference variant: {record.variant}.", ""]
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        f"base_model: {model['weights']}",
        "---",
        f"# {record.name}",
        "",
        f"{choices['model']}, {record.provenance['layers']} layers, trained with {choices['sampler']} batches on "
        f"{choices['data']}, seed {record.seed}; commit {record.provenance['commit']}.",
        "",
        USAGE,
        f"Evaluated with queries truncated to {model['max_query_tokens']} tokens.",
        "",
        *deployed,
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

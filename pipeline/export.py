"""`python -m pipeline.export RUN to=FOLDER`: write a run's encoder as a folder that sentence-transformers loads.

Of a run whose queries another encoder encodes (an inference variant), that encoder is the folder `query_encoder` in it.
The folder has a model card with the run's figures. `SentenceTransformer(FOLDER)` gives the same embeddings (tested),
for texts within both maximum lengths.

    python -m pipeline.export e5-small-l12-hybrid-worldfacts-s0-1a2b3c4d to=my-retriever

Keys:
    run                 a folder of results/runs, as `recommend` prints it; the first word may leave the key out
    to                  the folder to write, which must not exist; by default the name of the run
    results_dir         results
"""

from pathlib import Path

from pipeline.config import from_plain
from pipeline.launch.commands import arguments, command
from pipeline.reporting.card import QUERIES, card
from pipeline.store.keys import contents
from pipeline.store.records import Record
from pipeline.store.results import ResultStore
from pipeline.values import LEXICAL, UserError


def export(store: ResultStore, name: str, folder: Path) -> None:
    """Write the encoder of a run to a new folder.

    Raises:
        UserError: if the folder exists, the run or its weights are missing, or it is BM25, which has none.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: name another folder with to=.")
    record = store.load(name)
    if record.config["model"]["weights"] == LEXICAL:
        raise UserError(f"{name} is BM25, which has no weights to export: bm25s indexes as conf/model/bm25.yaml says.")
    from pipeline.encoder import model_folder  # with torch: --help and a wrong name do not wait for it
    from pipeline.encoder.sources import origin
    from pipeline.encoder.starts import of_run

    model = from_plain(record.config).model
    vocabulary = contents(record.config["model"]["vocabulary"])
    if model.vocabulary.languages and vocabulary != record.provenance["inputs"]["model"]["vocabulary"]:
        raise UserError(
            f"model.vocabulary.path={model.vocabulary.path}: its files are missing or not those of the run."
        )
    encoder = of_run(store, record)
    model_folder.write(encoder, folder, card(record, *origin(model)))
    if query_encoder := query_encoder_of(record):
        export(store, query_encoder, folder / QUERIES)


def query_encoder_of(record: Record) -> str | None:
    """Return the run whose encoder encodes the queries of this one, which is an inference variant; None for most."""
    variants, trained = from_plain(record.config).inference_variants(), record.name.partition("+")[0]
    return next((each.query_encoder for each in variants if each.run_name(trained) == record.name), None)


def main() -> None:
    """Read the command line and export."""
    with command():
        name, options = arguments(__doc__, "to", "results_dir")
        folder = Path(options.get("to", name))
        export(ResultStore(options.get("results_dir", "results")), name, folder)
        print(folder)


if __name__ == "__main__":
    main()

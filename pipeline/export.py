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
from pipeline.serving.encoders import encoder_of, variant_of
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

    encoder, variant = encoder_of(store, record), variant_of(record)
    model_folder.write(encoder, folder, card(record, variant, *origin(from_plain(record.config).model)))
    if variant.query_encoder:
        export(store, variant.query_encoder, folder / QUERIES)


def main() -> None:
    """Read the command line and export."""
    with command():
        name, options = arguments(__doc__, "to", "results_dir")
        folder = Path(options.get("to", name))
        export(ResultStore(options.get("results_dir", "results")), name, folder)
        print(folder)


if __name__ == "__main__":
    main()

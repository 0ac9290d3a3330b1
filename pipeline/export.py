"""`python -m pipeline.export RUN to=FOLDER`: write a run's encoder as a folder that sentence-transformers loads.

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
from pipeline.reporting.card import card
from pipeline.store.keys import contents
from pipeline.store.results import ResultStore
from pipeline.values import UserError


def export(store: ResultStore, name: str, folder: Path) -> None:
    """Write the encoder of a run to a new folder.

    Raises:
        UserError: if the folder exists, or the run or its weights are missing.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: name another folder with to=.")
    record = store.load(name)
    from pipeline.encoder import model_folder  # with torch: --help and a wrong name do not wait for it
    from pipeline.encoder.sources import load, origin

    model = from_plain(record.config).model
    if model.vocabulary.languages and contents(record.config["model"]) != record.provenance["inputs"]["model"]:
        raise UserError(
            f"model.vocabulary.path={model.vocabulary.path}: its files are missing or not those of the run."
        )
    encoder = load(model, seed=record.seed)
    if record.training:
        encoder.restore(store.stage_dir("train", record.provenance["stages"]["train"]) / "encoder")
    model_folder.write(encoder, folder, card(record, *origin(model)))


def main() -> None:
    """Read the command line and export."""
    with command():
        name, options = arguments(__doc__, "to", "results_dir")
        folder = Path(options.get("to", name))
        export(ResultStore(options.get("results_dir", "results")), name, folder)
        print(folder)


if __name__ == "__main__":
    main()

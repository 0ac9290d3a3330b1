"""`python -m pipeline.export RUN [to=FOLDER] [results_dir=results]`: export a run's encoder to sentence-transformers.

Reads the run's record and weights; writes a folder that `SentenceTransformer(FOLDER)` loads, with a model card that
holds the run's figures. The embeddings are the same (tested), for texts within both maximum lengths.
"""

from pathlib import Path

from pipeline.config import from_plain
from pipeline.encoder import model_folder
from pipeline.encoder.sources import load, origin
from pipeline.launch.commands import arguments, refusing
from pipeline.reporting.card import card
from pipeline.store.results import ResultStore
from pipeline.values import UserError

USAGE = "usage: python -m pipeline.export RUN [to=FOLDER] [results_dir=results]; RUN is a folder of results/runs."


def export(store: ResultStore, name: str, folder: Path) -> None:
    """Write the encoder of a run to a new folder.

    Raises:
        UserError: if the folder exists, or the run or its weights are missing.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: name another folder with to=.")
    record = store.load(name)
    model = from_plain(record.config).model
    encoder = load(model, seed=record.seed)
    if record.training:
        encoder.restore(store.stage_dir("train", record.provenance["stages"]["train"]) / "encoder")
    model_folder.write(encoder, folder, card(record, *origin(model)))


def main() -> None:
    """Read the command line and export."""
    with refusing():
        name, options = arguments(USAGE, "to", "results_dir")
        folder = Path(options.get("to", name))
        export(ResultStore(options.get("results_dir", "results")), name, folder)
        print(folder)


if __name__ == "__main__":
    main()

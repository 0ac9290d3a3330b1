"""`python -m pipeline.sync RESULTS`: send the W&B runs that were kept offline in a results folder.

Needs an API key: WANDB_API_KEY, or wandb login. What was sent is not sent again.

    python -m pipeline.sync results

Keys:
    results_dir         a folder of results; the first word may leave the key out
"""

from pathlib import Path

from pipeline.launch.commands import arguments, command
from pipeline.reporting.wandb.client import sync
from pipeline.values import UserError


def main() -> None:
    """Read the command line and send the runs."""
    with command():
        folder, _ = arguments(__doc__)
        if not Path(folder).is_dir():
            raise UserError(f"results_dir={folder}: there is no such folder.")
        sync(Path(folder))


if __name__ == "__main__":
    main()

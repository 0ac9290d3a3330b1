"""`python -m pipeline.serving.convert RESULTS RUN WEIGHTS DEVICE FOLDER`: write the files of an engine without torch.

`encoders` calls it, so that torch, which converts, is not in the memory of the process that serves. WEIGHTS names the
run whose encoder is written to FOLDER as the inference variant that RUN is.
"""

import sys
from pathlib import Path

from pipeline.encoder.engine import Unavailable, require_device
from pipeline.serving.encoders import encoder_of, variant_of
from pipeline.store.results import ResultStore
from pipeline.values import REFUSED, UserError


def main() -> None:
    """Write the files; a sentence on stderr and exit code 2 for what cannot be converted here."""
    from pipeline.encoder.deploy import save

    root, run, weights, device, folder = sys.argv[1:]
    store = ResultStore(root)
    try:
        require_device(device)
        save(encoder_of(store, store.load(weights)).to(device), variant_of(store.load(run)), Path(folder))
    except (UserError, Unavailable) as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()

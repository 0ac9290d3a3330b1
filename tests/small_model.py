"""The model of most runs in tests: the first layer of multilingual-e5-small with the few pieces that their texts use.

Texts have the vectors that they have with all 250,037 pieces, whose word embeddings take seconds to unpack. The folder
is made once for each state of the code that it follows from, and kept.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tiny import PACKAGED, model_config
from transformers import PreTrainedTokenizerFast

from pipeline.data import worldfacts
from pipeline.encoder.sources import load
from pipeline.groups import VocabularyConfig
from pipeline.store.keys import cache_key, follow

CACHE = Path(__file__).parent.parent / ".pytest_cache"
CODE = cache_key(follow(["pipeline.encoder.sources", "pipeline.data.worldfacts"]))
FOLDER = CACHE / f"e5-small-l1-worldfacts-{CODE}"
LANGUAGES = ["de", "en"]


def make(folder: Path) -> None:
    """Write the model in the hub's format."""
    training, benchmark = worldfacts.train(LANGUAGES), worldfacts.benchmark(LANGUAGES)
    for language in LANGUAGES:
        texts = [*training.questions[language], *training.passages[language]]
        texts += [*benchmark.queries[language].texts, *benchmark.passages[language].texts]
        (folder / f"{language}.txt").write_text("\n".join(texts), encoding="utf-8")
    vocabulary = VocabularyConfig(LANGUAGES, str(folder))
    encoder = load(model_config(**PACKAGED | {"layers": 1, "vocabulary": vocabulary}), seed=0)
    encoder.backbone.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, pad_token="<pad>").save_pretrained(folder)


if not FOLDER.exists():
    CACHE.mkdir(exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=CACHE))
    make(unfinished)
    with suppress(OSError):  # another worker was faster
        unfinished.rename(FOLDER)
    shutil.rmtree(unfinished, ignore_errors=True)

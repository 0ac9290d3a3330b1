"""From texts to rows of token ids, alike for every encoder: torch's (`model`) and a deployed one (`deployed`).

Imports no torch: a deployed engine may do without.
"""

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer

from pipeline.encoder.sentencepieces import Pieces
from pipeline.values import Side

Reader = Tokenizer | Pieces


class Reading:
    """The part of an encoder that reads texts; the two sides differ only in prefix and maximum length.

    Attributes:
        pad_id: the tokenizer's id of the padding token.
        max_tokens: maximum length per side, special tokens included.
    """

    tokenizer: Reader
    pad_id: int
    prefixes: Mapping[Side, str]
    max_tokens: Mapping[Side, int]
    closing: int  # number of special tokens at the end of a text

    def read_with(
        self, tokenizer: Reader, pad_id: int, prefixes: Mapping[Side, str], max_tokens: Mapping[Side, int]
    ) -> None:
        """Set what texts are read with; the tokenizer neither pads nor truncates from now on."""
        self.tokenizer, self.pad_id = tokenizer, pad_id
        self.prefixes, self.max_tokens = dict(prefixes), dict(max_tokens)
        if isinstance(tokenizer, Pieces):
            self.closing = tokenizer.closing
            return
        tokenizer.no_padding()
        tokenizer.no_truncation()
        special = tokenizer.encode("a").special_tokens_mask
        texts = [place for place, is_special in enumerate(special) if not is_special]
        self.closing = len(special) - 1 - max(texts, default=len(special) - 1)

    def tokenize(self, texts: Sequence[str], side: Side) -> list[list[int]]:
        """Return token ids with the side's prefix and special tokens; truncation keeps the closing tokens."""
        prefix, max_tokens = self.prefixes[side], self.max_tokens[side]
        texts = [(prefix + text).strip() for text in texts]
        if isinstance(self.tokenizer, Pieces):
            rows = self.tokenizer.ids(texts)
        else:
            rows = [row.ids for row in self.tokenizer.encode_batch_fast(texts)]
        kept = max_tokens - self.closing
        return [ids if len(ids) <= max_tokens else ids[:kept] + ids[len(ids) - self.closing :] for ids in rows]

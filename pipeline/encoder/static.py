"""The static architecture: a table with one vector per token, whose mean is the text's vector. No layers, no positions.

Model2Vec (https://github.com/MinishLab/model2vec) and sentence-transformers (StaticEmbedding) publish such tables.
Importing this module makes the architecture known to transformers, so a table is a backbone as any other: its hidden
states are the tokens' vectors, and training, backends and costs need know no more. `static_folder` reads published
tables, `static_start` distils one out of a trained encoder.

Axes: N texts of a batch, T tokens, D width.
"""

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

LONGEST = 1_000_000  # tokens: a mean takes any number


class TableConfig(PreTrainedConfig):
    """The sizes of a table; those of a transformer are there for modules that count work: none."""

    model_type = "static"

    vocab_size: int = 0
    hidden_size: int = 0
    max_position_embeddings: int = LONGEST
    num_hidden_layers: int = 0
    num_attention_heads: int = 1
    intermediate_size: int = 0


class StaticBackbone(PreTrainedModel):
    """A table as a backbone."""

    config_class = TableConfig

    def __init__(self, config: TableConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the table."""
        return self.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Return the vector of each token, [N, T, D]; the mask is for the head, which takes the mean."""
        return BaseModelOutput(last_hidden_state=self.embeddings(input_ids))


AutoConfig.register(TableConfig.model_type, TableConfig)
AutoModel.register(TableConfig, StaticBackbone)

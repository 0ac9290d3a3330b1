"""Inference engines: each file is the backend of its name, for conf/variants and `values.Variant.backend`.

In: a trained backbone (transformers; evaluation mode, float32) and a precision: float32, bfloat16 or int8.
Out: `build(backbone, precision)`, a module that the Encoder calls in its place. The backbone stays as it is.
Errors: UserError for a combination that the engine does not support, Unavailable for what this machine lacks.
Read `eager.py` first. What several backends need is in `encoder/engine.py` and `encoder/onnx_export.py`.
"""

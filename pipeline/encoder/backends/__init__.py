"""Inference engines: each file is the backend of its name, for conf/variants and `values.Variant.backend`.

    check(precision, device)    UserError for a combination that the engine does not support, Unavailable for what this
                                machine lacks
    save(encoder, precision, folder)    write the engine's files; returns the bytes of the weights in memory
    preload(folder)             import what `load` needs
    load(folder, description, tokenizer, *, threads, device)    the encoder, as encoding.encode takes it
    prepare(backbone)           of an engine on torch only: turn a loaded backbone, in place, into the engine's

`load` of an engine without torch imports no torch, nor does its module at the top. Read `eager.py` and `onnx.py` first.
What several backends share is in `encoder/engine.py`, `encoder/torch_folder.py` and `encoder/onnx_export.py`.
"""

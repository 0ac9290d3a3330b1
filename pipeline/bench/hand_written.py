"""Serve a deployed ONNX or OpenVINO file by hand: `python hand_written.py FOLDER < texts.json`; prints the peak in MiB.

Imports nothing of this project: what a stranger would write, to hold the memory meter against.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

if __name__ == "__main__":
    folder = sys.argv[1]
    facts = json.loads(Path(folder, "deployed.json").read_text(encoding="utf-8"))
    tokenizer = SentencePieceProcessor(model_file=f"{folder}/sentencepiece.model")
    passages = [facts["prefixes"]["passage"] + text for text in json.load(sys.stdin)]
    rows = [ids[: facts["max_tokens"]["passage"] - 2] for ids in tokenizer.encode(passages)]
    rows = [[tokenizer.bos_id(), *ids, tokenizer.eos_id()] for ids in rows]
    longest = max(map(len, rows))
    ids = np.array([row + [facts["pad_id"]] * (longest - len(row)) for row in rows])
    mask = np.array([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    if facts["backend"] == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
        vectors = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    else:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # sent from a fork that may wait for ever
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "bf16" if facts["precision"] == "bfloat16" else "f32"}
        vectors = openvino.Core().compile_model(f"{folder}/model.xml", "CPU", settings)([ids, mask])[0]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024)

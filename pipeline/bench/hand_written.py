"""Serve a deployed ONNX or OpenVINO file by hand: `python hand_written.py FOLDER < texts.json`; prints the peak in MiB.

Imports nothing of this project: what a stranger would write, to hold the memory meter against.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

if __name__ == "__main__":
    folder = sys.argv[1]
    facts = json.loads(Path(folder, "deployed.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.enable_truncation(facts["max_tokens"]["passage"])
    tokenizer.enable_padding(pad_id=facts["pad_id"])
    rows = tokenizer.encode_batch([facts["prefixes"]["passage"] + text for text in json.load(sys.stdin)])
    ids, mask = np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows], bool)
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

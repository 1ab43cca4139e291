"""Makes calls with Triton's own client. Reads {address, calls} as JSON from standard input, prints one result for each."""

import base64
import json
import sys

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype


def tensor(spec):
    values = np.frombuffer(base64.b64decode(spec["base64"]), dtype=triton_to_np_dtype(spec["datatype"]))
    made = http.InferInput(spec["name"], spec["shape"], spec["datatype"])
    made.set_data_from_numpy(values.reshape(spec["shape"]), binary_data=spec["binary"])
    return made


def described(values):
    data = np.ascontiguousarray(values)
    return {
        "datatype": np_to_triton_dtype(data.dtype),
        "shape": list(data.shape),
        "base64": base64.b64encode(data.tobytes()).decode(),
    }


def infer(client, call):
    outputs = call.get("outputs")
    asked = outputs and [http.InferRequestedOutput(o["name"], binary_data=o["binary"]) for o in outputs]
    inputs = [tensor(spec) for spec in call["inputs"]]
    options = {"outputs": asked, **call.get("options", {})}
    if call.get("later"):
        result = client.async_infer(call["model"], inputs, **options).get_result()
    else:
        result = client.infer(call["model"], inputs, **options)
    response = result.get_response()
    names = [output["name"] for output in response["outputs"]]
    tensors = {name: described(result.as_numpy(name)) for name in names}
    head = {key: response.get(key) for key in ("id", "model_name", "model_version")}
    return {**head, "names": names, "tensors": tensors}


def answer(client, call):
    try:
        if call["method"] == "infer":
            return infer(client, call)
        return getattr(client, call["method"])(*call.get("arguments", []))
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}


job = json.load(sys.stdin)
with http.InferenceServerClient(job["address"], concurrency=4) as served:
    json.dump([answer(served, call) for call in job["calls"]], sys.stdout)

"""One Mixture-of-Experts layer in PyTorch: the loop over experts of Hugging Face's MixtralSparseMoeBlock.

A child of `turnout bench layer`: reads one JSON object a line, answers with one. It measures its own calls, so that
talking to it is not in its times.
"""

import json
import sys
import time


def answer(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


try:
    import numpy
    import torch
    from torch.nn import functional
except ImportError as error:
    answer(error=str(error))
    sys.exit(0)


def read(place, rows, cols):
    """A float32 matrix [rows, cols] out of a file."""
    flat = numpy.fromfile(place["path"], dtype="<f4", count=rows * cols, offset=place.get("offset", 0))
    return torch.from_numpy(flat.reshape(rows, cols))


class Layer:
    def __init__(self, ask):
        self.hidden, self.inner, self.k = ask["hidden"], ask["inner"], ask["k"]
        self.gated = ask["activation"] == "swiglu"
        sizes = {"w1": (self.hidden, self.inner), "w2": (self.inner, self.hidden), "w3": (self.hidden, self.inner)}
        # As torch.nn.Linear holds them: [outputs, inputs].
        self.experts = [
            {name: read(place, *sizes[name]).t().contiguous() for name, place in files.items()}
            for files in ask["experts"]
        ]
        self.gate = read(ask["gate"], self.hidden, len(self.experts)).t().contiguous()

    def expert(self, e, x):
        weights = self.experts[e]
        up = functional.linear(x, weights["w1"])
        active = functional.silu(up) * functional.linear(x, weights["w3"]) if self.gated else functional.relu(up)
        return functional.linear(active, weights["w2"])

    def forward(self, x, bias):
        scores = functional.softmax(functional.linear(x, self.gate, bias), dim=1)
        weights, chosen = torch.topk(scores, self.k, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        y = torch.zeros_like(x)
        mask = functional.one_hot(chosen, num_classes=len(self.experts)).permute(2, 1, 0)
        for e in mask.sum(dim=(-1, -2)).nonzero().flatten().tolist():
            choice, rows = torch.where(mask[e])
            part = self.expert(e, x.index_select(0, rows)) * weights[rows, choice, None]
            y.index_add_(0, rows, part)
        return y


def main():
    answer(torch=torch.__version__)
    layer, x, bias = None, None, None
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["kind"] == "open":
            torch.set_num_threads(ask["threads"])
            layer = Layer(ask)
            answer(done=True)
        elif ask["kind"] == "case":
            x = read(ask["x"], ask["rows"], layer.hidden)
            bias = torch.tensor(ask["bias"], dtype=torch.float32)
            layer.forward(x, bias).numpy().astype("<f4").tofile(ask["y"])
            answer(done=True)
        else:
            started = time.perf_counter()
            for _ in range(ask["repeats"]):
                layer.forward(x, bias)
            answer(seconds=time.perf_counter() - started)


with torch.no_grad():
    main()

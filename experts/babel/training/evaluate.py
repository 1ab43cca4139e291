"""Held-out bits per byte of the mixture and of the dense baseline, and what the router did on the held-out text.

Windows of 512 bytes, each from a fresh begin token with fresh capacity counters. Writes evidence.json beside the manifest.
"""
import argparse
import json
import math
import os

import numpy as np
import torch
from torch.nn import functional as F

from model import BEGIN, Babel, Sizes

WINDOW, WINDOWS = 512, 16


def windows(path):
    """Consecutive windows; the last one may be shorter. Yields ids, targets [B,T]."""
    data = np.fromfile(path, dtype=np.uint8).astype(np.int64)
    whole = len(data) // WINDOW * WINDOW
    parts = [data[:whole].reshape(-1, WINDOW)[i : i + WINDOWS] for i in range(0, whole // WINDOW, WINDOWS)]
    if whole < len(data):
        parts.append(data[whole:].reshape(1, -1))
    for part in parts:
        targets = torch.from_numpy(np.ascontiguousarray(part))
        begin = torch.full((len(part), 1), BEGIN)
        yield torch.cat([begin, targets[:, :-1]], 1), targets


def score(model, path):
    """-> bits per byte, and per layer [E] kept and chosen assignments (none for the dense model)."""
    sizes, bits, count = model.sizes, 0.0, 0
    kept = np.zeros((sizes.layers, sizes.experts))
    chosen = np.zeros((sizes.layers, sizes.experts))
    for ids, targets in windows(path):
        with torch.no_grad():
            logits, routing = model(ids)
        bits += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item() / math.log(2)
        count += targets.numel()
        for layer, decided in enumerate(routing):
            if decided is not None:
                experts = decided["chosen"].numpy()
                chosen[layer] += np.bincount(experts.ravel(), minlength=sizes.experts)
                kept[layer] += np.bincount(experts[decided["kept"].numpy()], minlength=sizes.experts)
    return bits / count, kept, chosen


def mutual_information(table):
    """I(domain; expert) in bits of a table [domains, E] of shares, domains equally likely: H(expert) - mean H(expert | domain)."""

    def entropy(p):
        return -sum(x * math.log2(x) for x in p if x > 0)

    return entropy(table.mean(0)) - float(np.mean([entropy(row) for row in table]))


def load(work, kind):
    model = Babel(Sizes(), kind)
    saved = torch.load(os.path.join(work, f"{kind}.pt"))
    model.load_state_dict(saved["model"])
    return model.eval(), saved


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--package", default=os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")))
    args = parser.parse_args()
    (moe, saved), (dense, dense_saved) = load(args.work, "moe"), load(args.work, "dense")
    names = sorted(name[:-4] for name in os.listdir(f"{args.package}/held-out") if name.endswith(".txt"))
    domains, kept, chosen = {}, [], []
    for name in names:
        path = f"{args.package}/held-out/{name}.txt"
        bits, k, c = score(moe, path)
        domains[name] = {"bytes": os.path.getsize(path), "moe": bits, "dense": score(dense, path)[0]}
        kept.append(k)
        chosen.append(c)
        print(f"{name:10} mixture {bits:.4f}  dense {domains[name]['dense']:.4f} bits per byte")
    kept, chosen = np.stack(kept, 1), np.stack(chosen, 1)
    layers = []
    for layer in range(moe.sizes.layers):
        table = kept[layer] / kept[layer].sum(1, keepdims=True)
        load_share = table.mean(0) * moe.sizes.experts
        layers.append(
            {
                "share": {name: [round(x, 4) for x in table[i]] for i, name in enumerate(names)},
                "mutualInformationBits": mutual_information(table),
                "load": [round(x, 4) for x in load_share],
                "dropped": 1 - kept[layer].sum() / chosen[layer].sum(),
            }
        )
        print(f"layer {layer}: information {layers[-1]['mutualInformationBits']:.3f} bits, dropped {layers[-1]['dropped']:.4f}, load {load_share.round(2)}")
    evidence = {
        "window": WINDOW,
        "steps": {"moe": saved["step"], "dense": dense_saved["step"]},
        "parameters": {"moe": parameters(moe), "dense": parameters(dense)},
        "domains": domains,
        "layers": layers,
    }
    with open(f"{args.package}/evidence.json", "w") as file:
        json.dump(evidence, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()

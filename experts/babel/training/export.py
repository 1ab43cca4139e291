"""A trained checkpoint -> the package: ONNX files with external data, and the manifest with sizes and checksums."""
import argparse
import hashlib
import json
import os

import torch

import graphs
from model import BEGIN, Babel

BLOCK = 64
ABOUT = {
    "description": "A small byte-level Mixture-of-Experts language model for English, German, French, Japanese, Python and C.",
    "license": "MIT",
    "provenance": {
        "data": "Debian packages: bible-kjv-text, debian-reference-{de,fr,ja}, manpages-{de,fr,ja}, libpython3.11-stdlib, libc6-dev, linux-libc-dev; see README.md",
        "program": "training/build.sh",
    },
}


def write_graphs(model, folder):
    sizes = model.sizes
    for layer in range(sizes.layers):
        graphs.segment(model, layer, BLOCK).save(f"{folder}/trunk-{layer:02}")
        os.makedirs(f"{folder}/layer-{layer:02}", exist_ok=True)
        graphs.gate(model, layer).save(f"{folder}/layer-{layer:02}/gate")
        for index in range(sizes.experts):
            graphs.expert(model, layer, index).save(f"{folder}/layer-{layer:02}/expert-{index:03}")
    graphs.head(model).save(f"{folder}/trunk-{sizes.layers:02}")


def layer_entry(sizes, layer):
    folder = f"layer-{layer:02}"
    admit = {"factor": sizes.capacity_factor, "formula": "deepspeed", "minimum": sizes.capacity_minimum}
    admit |= {"priority": "token-major", "overflow": "drop", "scope": "request"}
    return {
        "name": f"layers.{layer}",
        "gate": {"model": f"{folder}/gate.onnx"},
        "router": {"preset": "mixtral", "options": {"select": {"k": sizes.choices}, "admit": admit}},
        "experts": [{"model": f"{folder}/expert-{index:03}.onnx"} for index in range(sizes.experts)],
    }


def steps(sizes):
    listed = []
    for layer in range(sizes.layers):
        if layer == 0:
            inputs, h = {"ids": "ids", "positions": "positions"}, "h"
        else:
            inputs, h = {"h": f"h.{layer - 1}", "y": f"y.{layer - 1}", "positions": "positions"}, "h_out"
        outputs = {h: f"h.{layer}", "hn": f"x.{layer}"}
        listed.append({"kind": "graph", "domain": "rows", "model": f"trunk-{layer:02}.onnx", "inputs": inputs, "outputs": outputs, "state": f"kv.{layer}"})
        listed.append({"kind": "moe", "layer": layer, "input": f"x.{layer}", "output": f"y.{layer}"})
    last = sizes.layers - 1
    inputs = {"h": f"h.{last}", "y": f"y.{last}", "select": "select"}
    listed.append({"kind": "graph", "domain": "rows", "model": f"trunk-{sizes.layers:02}.onnx", "inputs": inputs, "outputs": {"logits": "logits"}})
    return listed


def parameters(model):
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for name, p in model.named_parameters() if name.endswith((".up", ".down")))
    return {"total": total, "active": total - experts + experts * model.sizes.choices // model.sizes.experts}


def file_entries(folder, held_out):
    names = sorted(
        os.path.relpath(os.path.join(at, name), folder)
        for at, _, found in os.walk(folder)
        for name in found
        if name.endswith((".onnx", ".bin"))
    )
    entries = {}
    for name in names + sorted(held_out.values()):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return entries


def manifest(model, folder):
    sizes = model.sizes
    held_out = {name[:-4]: f"held-out/{name}" for name in sorted(os.listdir(f"{folder}/held-out")) if name.endswith(".txt")}
    return {
        "format": "turnout-package",
        "version": 1,
        "name": "babel",
        **ABOUT,
        "sizes": {
            "hidden": sizes.hidden,
            "layers": sizes.layers,
            "experts": sizes.experts,
            "choices": sizes.choices,
            "inner": sizes.inner,
            "vocabulary": sizes.vocabulary,
            "context": sizes.context,
            "parameters": parameters(model),
        },
        "tokenizer": {"type": "bytes", "begin": BEGIN, "end": BEGIN},
        "layers": [layer_entry(sizes, layer) for layer in range(sizes.layers)],
        "program": {
            "inputs": {"ids": "ids", "positions": "positions", "select": "select"},
            "outputs": {"logits": "logits"},
            "states": [
                {"name": f"kv.{layer}", "kind": "paged", "heads": sizes.heads, "size": sizes.hidden // sizes.heads, "block": BLOCK}
                for layer in range(sizes.layers)
            ],
            "steps": steps(sizes),
        },
        "heldOut": held_out,
        "files": file_entries(folder, held_out),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--package", default=os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")))
    args = parser.parse_args()
    model = Babel()
    saved = torch.load(os.path.join(args.work, "moe.pt"))
    model.load_state_dict(saved["model"])
    write_graphs(model, args.package)
    with open(os.path.join(args.package, "manifest.json"), "w") as file:
        json.dump(manifest(model, args.package), file, indent=1)
        file.write("\n")
    print(f"exported after step {saved['step']} of {saved['steps']} to {args.package}")


if __name__ == "__main__":
    main()

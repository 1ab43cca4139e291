"""Trains the mixture or the dense baseline on the prepared text; the same steps see the same bytes in both."""
import argparse
import glob
import os
import time

import numpy as np
import torch
from torch.nn import functional as F

from model import BEGIN, Babel, Sizes, router_losses

WINDOW, WINDOWS = 512, 8
LONG_WINDOW, LONG_WINDOWS = 2048, 2
LONG_SHARE = 0.1
RATE, WARMUP, DECAY = 3e-3, 150, 0.05
BALANCE, Z = 0.01, 0.001


def read_text(work):
    """domain -> int64 token ids; documents are separated by the begin token."""
    text = {}
    for path in sorted(glob.glob(os.path.join(work, "*.train"))):
        data = np.fromfile(path, dtype=np.uint8).astype(np.int64)
        data[data == 0] = BEGIN
        text[os.path.basename(path)[: -len(".train")]] = data
    return text


def batch(text, step, steps):
    """Windows of the step, domains in turn; the last tenth of the steps trains the long context. -> ids, targets [B,T]."""
    long = step >= steps * (1 - LONG_SHARE)
    length, count = (LONG_WINDOW, LONG_WINDOWS) if long else (WINDOW, WINDOWS)
    domains = list(text.values())
    random = np.random.default_rng([1, step])
    rows = []
    for i in range(count):
        data = domains[(step * count + i) % len(domains)]
        start = random.integers(0, len(data) - length)
        rows.append(data[start : start + length])
    targets = torch.from_numpy(np.stack(rows))
    begin = torch.full((count, 1), BEGIN)
    return torch.cat([begin, targets[:, :-1]], 1), targets


def rate(step, steps):
    """Warm-up, then a cosine down to DECAY."""
    warm = min(1.0, (step + 1) / WARMUP)
    return RATE * warm * (DECAY + (1 - DECAY) * 0.5 * (1 + np.cos(np.pi * step / steps)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--kind", choices=["moe", "dense"], default="moe")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--stop-after", type=int, help="end early, for a measurement")
    args = parser.parse_args()
    torch.manual_seed(1)
    text = read_text(args.work)
    model = Babel(Sizes(), args.kind)
    plain = [p for p in model.parameters() if p.dim() < 2]
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    path = os.path.join(args.work, f"{args.kind}.pt")
    first = 0
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    started, seen = time.time(), 0
    for step in range(first, min(args.steps, args.stop_after or args.steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args.steps)
        ids, targets = batch(text, step, args.steps)
        logits, routing = model(ids)
        loss = cross = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        balance = z = torch.zeros(())
        if args.kind == "moe":
            balance, z = router_losses(routing, model.sizes)
            loss = cross + BALANCE * balance + Z * z
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += ids.numel()
        if step % 50 == 0 or step == args.steps - 1:
            kept = np.mean([layer["kept"].float().mean().item() for layer in routing]) if args.kind == "moe" else 1
            speed = seen / (time.time() - started)
            print(f"step {step} bits {cross.item() / np.log(2):.4f} balance {balance.item():.3f} z {z.item():.3f} kept {kept:.4f} {speed:.0f} tokens/s", flush=True)
        if (step + 1) % 250 == 0 or step == args.steps - 1:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "steps": args.steps}, path + ".new")
            os.replace(path + ".new", path)


if __name__ == "__main__":
    main()

"""evidence.json -> an SVG of which expert takes which domain, layer by layer."""
import argparse
import json
import os

CELL, GAP, LEFT, TOP = 26, 34, 84, 40
# ColorBrewer's single-hue blues, readable with any colour vision.
RAMP = ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594"]


def cell(x, y, share, most):
    level = min(len(RAMP) - 1, int(share / most * len(RAMP)))
    ink = "#ffffff" if level >= 4 else "#1b2733"
    box = f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{RAMP[level]}"/>'
    return box + f'<text x="{x + CELL / 2 - 0.5}" y="{y + 17}" text-anchor="middle" fill="{ink}">{share * 100:.0f}</text>'


def picture(evidence):
    domains = list(evidence["domains"])
    experts = len(evidence["layers"][0]["load"])
    most = max(max(row) for layer in evidence["layers"] for row in layer["share"].values())
    width = LEFT + len(evidence["layers"]) * (experts * CELL + GAP)
    height = TOP + len(domains) * CELL + 16
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">']
    parts.append(f'<rect width="{width}" height="{height}" fill="#ffffff"/>')
    for i, domain in enumerate(domains):
        parts.append(f'<text x="{LEFT - 8}" y="{TOP + i * CELL + 17}" text-anchor="end" fill="#1b2733">{domain}</text>')
    for l, layer in enumerate(evidence["layers"]):
        x0 = LEFT + l * (experts * CELL + GAP)
        title = f'layer {l}: {layer["mutualInformationBits"]:.2f} bits'
        parts.append(f'<text x="{x0}" y="16" fill="#1b2733" font-weight="bold">{title}</text>')
        parts += [f'<text x="{x0 + e * CELL + 13}" y="{TOP - 6}" text-anchor="middle" fill="#5b6b7b">{e}</text>' for e in range(experts)]
        for i, domain in enumerate(domains):
            parts += [cell(x0 + e * CELL, TOP + i * CELL, layer["share"][domain][e], most) for e in range(experts)]
    return "\n".join([*parts, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser()
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--evidence", default=os.path.join(here, "..", "evidence.json"))
    parser.add_argument("--out", default=os.path.join(here, "..", "..", "..", "docs", "routing.svg"))
    args = parser.parse_args()
    with open(args.evidence) as file:
        evidence = json.load(file)
    with open(args.out, "w") as file:
        file.write(picture(evidence))


if __name__ == "__main__":
    main()

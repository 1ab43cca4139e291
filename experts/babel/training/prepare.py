"""Text of six kinds -> <work>/<domain>.train and held-out/<domain>.txt.

Sources are packages of the Debian distribution (see the model card for licences). Documents are split whole: every
`HOLD_EVERY`-th document of a domain is held out, so no held-out line stands in a training document.
"""
import argparse
import glob
import gzip
import html.parser
import os
import re
import subprocess

TRAIN_BYTES = 4_000_000
HELD_OUT_BYTES = 64_000
HOLD_EVERY = 25
STOP_WORDS = {
    "german": set("der die das und ist nicht ein eine für von mit den dem auf wird zu im sie werden".split()),
    "french": set("le la les des et est un une pour dans que qui sur pas du au par ce en de".split()),
}


def kjv():
    """The King James Bible, a chapter a document, a verse a line."""
    text = subprocess.run(["bible", "-p", "/usr/lib", "-f", "Gen1:1-Rev22:21"], capture_output=True, check=True).stdout
    chapters = {}
    for line in text.decode("utf-8", "replace").splitlines():
        match = re.match(r"(\S+?)(\d+):(\d+) (.*)", line)
        if match:
            chapters.setdefault(match[1] + match[2], []).append(match[4])
    return ["\n".join(verses) + "\n" for verses in chapters.values()]


def roff(path):
    """A manual page as plain paragraphs: macros and font changes taken out."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    out = []
    for line in lines:
        macro = re.match(r"\.\s*([A-Z]+)\s*(.*)", line)
        if macro:
            if macro[1] in ("SH", "SS"):
                out += ["", macro[2].strip('"'), ""]
            elif macro[1] in ("PP", "P", "LP", "TP", "IP", "HP"):
                out.append("")
            elif macro[1] in ("B", "I", "BR", "IR", "BI", "RB", "RI"):
                out.append(macro[2].replace('"', ""))
        elif not line.startswith((".", "'")):
            out.append(line)
    text = "\n".join(out)
    text = re.sub(r"\\f(\([A-Z]{2}|\[[A-Z0-9]*\]|[A-Z0-9])|\\[,/&|^c:]|\\s[-+]?\d", "", text)
    text = re.sub(r"\\\(?(co|lq|rq|oq|cq|aq|bu|em|en)", "", text)
    return re.sub(r"\\(.)", r"\1", text)


class Text(html.parser.HTMLParser):
    """The text of a page, a block element a paragraph."""

    BLOCKS = {"p", "li", "dt", "dd", "h1", "h2", "h3", "td", "th", "tr", "pre", "div", "br"}

    def __init__(self):
        super().__init__()
        self.parts, self.skip = [], 0

    def handle_starttag(self, tag, attrs):
        self.skip += tag in ("script", "style")
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag):
        self.skip -= tag in ("script", "style")
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.skip:
            self.parts.append(data.replace("\n", " "))


def book(path):
    parser = Text()
    with open(path, encoding="utf-8") as file:
        parser.feed(file.read())
    return "".join(parser.parts)


def in_language(paragraph, domain):
    """Whether a paragraph is really in the language of the domain: translations leave some in English."""
    if domain == "japanese":
        kana = len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", paragraph))
        return kana >= 0.25 * len(paragraph)
    words = re.findall(r"\w+", paragraph.lower())
    return len(words) >= 6 and sum(word in STOP_WORDS[domain] for word in words) >= 0.12 * len(words)


def translated(domain, code):
    documents = [book(path) for path in sorted(glob.glob(f"/usr/share/debian-reference/*.{code}.html"))]
    documents += [roff(path) for path in sorted(glob.glob(f"/usr/share/man/{code}/man*/*.gz")) if not os.path.islink(path)]
    join = "" if domain == "japanese" else " "
    cleaned = []
    for document in documents:
        paragraphs = [re.sub(r"\s*\n\s*", join, p).strip() for p in re.split(r"\n\s*\n", document)]
        kept = [re.sub(r"[ \t]+", " ", p) for p in paragraphs if in_language(p, domain)]
        if kept:
            cleaned.append("\n".join(kept) + "\n")
    return list(dict.fromkeys(cleaned))


def files(paths):
    documents = []
    for path in sorted(paths):
        with open(path, encoding="utf-8", errors="ignore") as file:
            documents.append(file.read())
    return [document for document in documents if 500 < len(document) < 60_000]


def standard_library():
    paths = glob.glob("/usr/lib/python3.11/**/*.py", recursive=True)
    return files(path for path in paths if "dist-packages" not in path and "encodings" not in path)


def c_headers():
    paths = []
    for package in ("libc6-dev", "linux-libc-dev"):
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, check=True).stdout.decode()
        paths += [path for path in listing.split() if path.endswith(".h") and os.path.isfile(path)]
    return files(paths)


def spread(documents):
    """A fixed shuffle, so that a cut of the list is a sample of all of it."""
    return sorted(documents, key=lambda text: hash_of(text))


def hash_of(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def cut(text, limit):
    """The first whole lines of at most `limit` bytes of UTF-8."""
    data = text.encode()[:limit]
    return data[: data.rfind(b"\n") + 1] if len(text.encode()) > limit else text.encode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--held-out", default=os.path.join(os.path.dirname(__file__), "..", "held-out"))
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    os.makedirs(args.held_out, exist_ok=True)
    domains = {
        "english": kjv,
        "german": lambda: translated("german", "de"),
        "french": lambda: translated("french", "fr"),
        "japanese": lambda: translated("japanese", "ja"),
        "python": standard_library,
        "c": c_headers,
    }
    for domain, read in domains.items():
        documents = spread(read())
        held = [text for i, text in enumerate(documents) if i % HOLD_EVERY == 0]
        train = [text for i, text in enumerate(documents) if i % HOLD_EVERY != 0]
        train_data = b"\0".join(text.encode() for text in train)[:TRAIN_BYTES]
        with open(os.path.join(args.work, f"{domain}.train"), "wb") as file:
            file.write(train_data.decode("utf-8", "ignore").encode())
        held_data = cut("".join(cut(text, 8_000).decode() for text in held), HELD_OUT_BYTES)
        with open(os.path.join(args.held_out, f"{domain}.txt"), "wb") as file:
            file.write(held_data)
        print(f"{domain:10} {len(documents):6} documents, train {len(train_data):9}, held out {len(held_data):7}")


if __name__ == "__main__":
    main()

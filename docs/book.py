#!/usr/bin/env python3
"""The pages as a book in which every link and picture works: a preprocessor of mdBook, see book.toml.

What a page of `docs` links to outside of the summary becomes a page of the book, too: README as the first, other pages, files and
folders of the repository at the end. The script that draws the pictures is put where book.toml looks for it.

    docs/book.py check FOLDER    says which links of a book that was built lead nowhere, which pictures are text, and which blocks
                                 are copied with what is not typed; it needs Node.js
"""
import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^()#\s:]+)(#[^()\s]*)?\)")
FENCED = re.compile(r"^(```.*?^```\n)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".rs": "rust", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".py": "python", ".sh": "bash"}


def preprocess():
    book = json.load(sys.stdin)[1]
    put_script()
    chapters = list(all_chapters(book["items"]))
    # From a file of the repository to its page in the book; those that are not there yet are added while links are followed.
    places = {f"docs/{chapter['source_path']}": chapter["path"] for chapter in chapters} | {"README.md": "index.md"}
    waiting = [(chapter, f"docs/{chapter['source_path']}") for chapter in chapters]
    readme = page("README.md", places)
    pages, files = [], []
    waiting.append((readme, "README.md"))
    while waiting:
        chapter, source = waiting.pop(0)
        if not source.endswith(".md") and not (ROOT / source).is_dir():
            continue
        chapter["content"], targets = follow(chapter, source, places)
        for target in targets:
            added = page(target, places)
            (pages if target.endswith(".md") else files).append(added)
            waiting.append((added, target))
    files.sort(key=lambda chapter: chapter["name"])
    all_files = "# Files\n\nThose that the pages speak of.\n\n" + "".join(f"- [{f['name']}]({f['path']})\n" for f in files)
    book["items"].insert(0, {"Chapter": readme})
    book["items"] += [{"PartTitle": "The repository"}] + [{"Chapter": added} for added in pages]
    book["items"].append({"Chapter": new("Files", "files.md", all_files, [{"Chapter": file} for file in files])})
    json.dump(book, sys.stdout)


def put_script():
    """The script that draws; mdbook-mermaid has it, and draws as we do, but warns of each mdBook that is newer than its own."""
    if not shutil.which("mdbook-mermaid"):
        sys.exit("mdbook-mermaid is missing: cargo install --locked mdbook-mermaid")
    folder = ROOT / "target/mermaid"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "book.toml").touch()
    # Its advice is about a book.toml that is not ours; standard output is mdBook's.
    subprocess.run(["mdbook-mermaid", "install", folder], check=True, stdout=sys.stderr, env=os.environ | {"RUST_LOG": "warn"})


def all_chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from all_chapters(item["Chapter"]["sub_items"])


def new(name, path, content, sub_items=()):
    return {
        "name": name, "path": path, "source_path": None, "content": content, "sub_items": list(sub_items),
        "number": None, "parent_names": [],
    }


def page(source, places):
    """The chapter that a file or a folder of the repository becomes."""
    path = ROOT / source
    if source.endswith(".md"):
        content = path.read_text()
        return new(content.partition("\n")[0].lstrip("# "), places[source], content)
    if path.is_dir():
        content = "".join(f"- [{entry.name}]({source}/{entry.name})\n" for entry in sorted(path.iterdir()))
    elif path.name == "openapi.json":
        return new(source, places[source], openapi(json.loads(path.read_text())))
    else:
        content = f"``````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}``````\n"
    return new(source, places[source], f"# {source}\n\n{content}")


def openapi(document):
    """A service's OpenAPI document as a page: its operations, and the types that they name."""

    def resolved(value):
        while "$ref" in value:
            kind, name = value["$ref"].split("/")[-2:]
            value = document["components"][kind][name]
        return value

    def typed(schema):
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return f"[{name}](#type-{name.lower()})"
        if schema.get("type") == "array":
            return "list of " + typed(schema["items"])
        kind = schema.get("type", "value")
        return kind if isinstance(kind, str) else " or ".join(kind)

    def table(*rows):
        cells = [[str(cell).strip().replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
        cells.insert(1, ["---"] * len(rows[0]))
        return "".join(f"| {' | '.join(row)} |\n" for row in cells) + "\n"

    def body(part):
        return "; ".join(f"`{kind}`: {typed(media['schema'])}" for kind, media in part.get("content", {}).items()) or "none"

    text = [f"# HTTP interface of the {document['info']['title']}\n\n{document['info']['description']}\n"]
    for path, item in document["paths"].items():
        for method in [method for method in item if "operationId" in item[method]]:
            operation = item[method]
            text.append(f"## `{method.upper()} {path}`\n\n{operation['summary']}. {operation['description']}\n")
            parameters = [resolved(parameter) for parameter in item.get("parameters", []) + operation.get("parameters", [])]
            rows = [(f"`{p['name']}`", p["in"], "yes" if p.get("required") else "no", p.get("description", "")) for p in parameters]
            text.append(table(("parameter", "in", "required", "meaning"), *rows))
            if "requestBody" in operation:
                request = resolved(operation["requestBody"])
                text.append(f"Body: {body(request)}. {request.get('description', '')}\n")
            answers = [(status, resolved(answer)) for status, answer in operation["responses"].items()]
            rows = [(status, answer["description"], body(answer)) for status, answer in answers]
            text.append(table(("answer", "meaning", "body"), *rows))
    for name, schema in document["components"]["schemas"].items():
        text.append(f"## Type {name}\n\n{schema.get('description', '')}\n")
        if schema.get("properties"):
            needed = schema.get("required", [])
            rows = [(f"`{key}`", typed(value), "yes" if key in needed else "no", resolved(value).get("description", ""))
                    for key, value in schema["properties"].items()]
            text.append(table(("field", "type", "required", "meaning"), *rows))
        else:
            rules = {key: value for key, value in schema.items() if key not in ("description", "examples", "example")}
            text.append(f"```json\n{json.dumps(rules, indent=2)}\n```\n")
    return "\n".join(text)


def follow(chapter, source, places):
    """A chapter's text with each link of the repository as one of the book, and the targets that have no page yet."""
    text, found = [], []
    # A folder's page names its files from the root on.
    folder = "" if (ROOT / source).is_dir() else os.path.dirname(source)

    def in_the_book(link):
        target = os.path.normpath(os.path.join(folder, link[1]))
        if target.startswith("..") or not (ROOT / target).exists():
            return link[0]
        if target.startswith("docs/") and target.endswith((".png", ".gif")):
            # mdBook copies it to the same place.
            return f"]({os.path.relpath(target.removeprefix('docs/'), os.path.dirname(chapter['path']))})"
        if target not in places:
            places[target] = f"repository/{target}" + ("" if target.endswith(".md") else ".md")
            found.append(target)
        return f"]({os.path.relpath(places[target], os.path.dirname(chapter['path']))}{link[2] or ''})"

    for n, part in enumerate(FENCED.split(chapter["content"])):
        text.append(drawn(part) if n % 2 else LINK.sub(in_the_book, part))
    return "".join(text), found


def drawn(block):
    """A block as it is, or what Mermaid's script makes a picture of."""
    picture = re.fullmatch("```mermaid\n(.*)```\n", block, re.DOTALL)
    return f'<pre class="mermaid">\n{html.escape(picture[1])}</pre>\n' if picture else block


class Page(HTMLParser):
    """What is asked of a page that was built: its ids, where it links to, and how many pictures and texts of pictures it has."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.pictures, self.texts = {"", "top"}, [], 0, 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key)]
        classes = (attributes.get("class") or "").split()
        self.pictures += "mermaid" in classes
        self.texts += "language-mermaid" in classes


def copied(block):
    """What the copy button of a block copies, or nothing of its own."""
    page = f"const code = {{ textContent: {json.dumps(block)} }}; const document = {{ querySelectorAll: () => [code] }};"
    script = page + (ROOT / "docs/copy.js").read_text() + "process.stdout.write(code.innerText ?? '')"
    return subprocess.run(["node", "--eval", script], capture_output=True, text=True, check=True).stdout


def check_copying():
    """Says which blocks are copied wrongly."""
    blocks = {
        "$ cargo hops up -d\n...\n$ curl localhost:6868/offers\n{}\n": "cargo hops up -d\ncurl localhost:6868/offers\n",
        "asked for fib(30)\n^C\n": "",
    }
    return [f"of {block!r} {copied(block)!r} is copied" for block, wanted in blocks.items() if copied(block) != wanted]


def check(folder):
    pages = {path.resolve(): Page(path) for path in Path(folder).rglob("*.html")}
    faults, links, pictures = check_copying(), 0, 0
    for path, here in pages.items():
        pictures += here.pictures
        faults += [f"{path}: a picture is text"] * here.texts
        # A page for any address that is not there: its links begin at the site's root.
        for link in here.links if path.name != "404.html" else []:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            links += 1
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_file() or target in pages and unquote(url.fragment) not in pages[target].ids:
                faults.append(f"{path}: {link}")
    print(*faults, f"{len(pages)} pages, {links} links, {pictures} pictures, {len(faults)} faults", sep="\n")
    return 1 if faults or not pictures else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            preprocess()
        case ["supports", renderer]:
            sys.exit(renderer != "html")
        case ["check", folder]:
            sys.exit(check(folder))
        case _:
            sys.exit(__doc__)

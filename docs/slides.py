#!/usr/bin/env python3
"""The walk-through as slides: one HTML file, which needs no network.

Each chapter gives its title with what you will do, its pictures and tables, and for each question to predict two slides, without
and with its answer. So a change of a chapter is a change of its slides.

    docs/slides.py FILE          writes the slides; mdbook-mermaid has the script that draws the pictures
    docs/slides.py check FILE    says what a browser (chromium) does not draw, or does not get onto a slide or a printed page
"""
import html
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import book

CHAPTERS = sorted((book.ROOT / "docs/walkthrough").glob("[0-9]*.md"))
SCRIPT = book.ROOT / "target/mermaid/mermaid.min.js"
PREDICT = "Predict first: "
# One at a time, top to bottom; what matches none of them is a paragraph.
BLOCK = re.compile(
    r"<details>\n<summary>(?P<summary>.*?)</summary>\n(?P<folded>.*?)</details>\n"
    r"|```(?P<language>\w*).*?\n(?P<fenced>.*?)```\n"
    r"|(?P<table>\|.*?\n(?=[^|]|\Z))"
    r"|(?P<heading>#+ .*?)\n"
    r"|(?P<list>- .*?\n)(?=\n|\Z)"
    r"|<!--.*?-->\n"
    r"|(?P<paragraph>\S.*?\n)(?=\n|<!--|```|\||\Z)"
    r"|\n",
    re.DOTALL,
)


def slides_of(chapter):
    """The slides of a chapter: what kind each is, and its content."""
    text = chapter.read_text()
    number, title = re.match(r"# (\d+)\. (.*)\n", text).groups()
    intro = text.split("\n\n")[1].splitlines()
    goal, length = (" ".join(line for line in intro if line.startswith(first)) for first in ("You will ", "It takes "))
    yield "title", f"<p class=label>Chapter {number}</p><h1>{inline(title)}</h1><p>{inline(goal)}</p><p class=label>{inline(length)}</p>"
    heading = title
    for block in BLOCK.finditer(text):
        if block["heading"]:
            heading = block["heading"].lstrip("# ").removeprefix(f"{number}. ")
        elif (block["summary"] or "").startswith(PREDICT):
            question = block["summary"].removeprefix(PREDICT)
            question = f"<p class=label>{PREDICT.strip(': ')}</p><h2>{question[0].upper()}{question[1:]}</h2>"
            yield "question", question
            yield "answer", question + rendered(block["folded"])
        elif block["table"] or block["language"] in ("mermaid", "text"):
            kind = "table" if block["table"] else "picture"
            yield kind, f"<h2>{inline(heading)}</h2>{rendered(block[0])}"


def rendered(text):
    """Markdown as HTML, as far as the chapters use it on a slide."""
    parts = []
    for block in BLOCK.finditer(text):
        if block["language"] == "mermaid":
            parts.append(f'<div class="scrolls mermaid">{html.escape(block["fenced"])}</div>')
        elif block["fenced"]:
            columns = max(len(line) for line in block["fenced"].splitlines())
            parts.append(f'<pre class=scrolls style="--columns: {columns}">{html.escape(block["fenced"])}</pre>')
        elif block["table"]:
            head, _, *rows = ([inline(cell.strip()) for cell in row.strip("|").split(" | ")] for row in block["table"].splitlines())
            body = "".join(row("td", cells) for cells in rows)
            parts.append(f'<div class=scrolls><table>{row("th", head)}{body}</table></div>')
        elif block["list"]:
            parts.append("<ul>" + "".join(f"<li>{inline(item)}</li>" for item in block["list"][2:].split("\n- ")) + "</ul>")
        elif block["paragraph"]:
            parts.append(f'<p>{inline(block["paragraph"])}</p>')
    return "".join(parts)


def row(tag, cells):
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def inline(text):
    """Code, emphasis and links of a line. A link within the repository would lead nowhere from a file, so it is only its text."""
    parts = html.escape(text, quote=False).split("`")
    for n in range(0, len(parts), 2):
        parts[n] = re.sub(r"\*(\S[^*]*?)\*", r"<em>\1</em>", parts[n])
    text = "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
    text = re.sub(r"\[([^]]*)\]\((http[^)]*)\)", r'<a href="\2">\1</a>', text)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)


def all_slides():
    goal = (book.ROOT / "README.md").read_text().split("\n\n")[1].splitlines()[0]
    keys = "The arrow keys turn the pages."
    slides = [("title", f"<h1>Hops</h1><p>{inline(goal)}</p><p class=label>{keys}</p>")]
    return slides + [slide for chapter in CHAPTERS for slide in slides_of(chapter)]


def write(file):
    book.put_script()
    slides = all_slides()
    sections = "".join(
        f"<section class={kind} id={n}><div>{content}</div><footer>{n} / {len(slides)}</footer></section>\n"
        for n, (kind, content) in enumerate(slides, 1)
    )
    # Within a page, this would be the script's end.
    script = SCRIPT.read_text().replace("</script", "<\\/script")
    Path(file).write_text(f"{HEAD}{sections}<script>{script}</script>\n{CONTROLS}")
    print(f"{len(slides)} slides of {len(CHAPTERS)} chapters in {file}")


HEAD = """<!DOCTYPE html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>Hops: slides</title>
<style>
/* A slide is as high as the screen, or as 9/16 of its width. All sizes follow its width; the script makes texts smaller that are too long. */
:root { --high: min(100vh, 56.25vw); --text: #1b1f24; --soft: #57606a; --back: #fff; --card: #f1f4f8; --line: #d0d7de; --strong: #0a58a6; }
@media screen and (prefers-color-scheme: dark) {
    :root { --text: #e6edf3; --soft: #9aa5b1; --back: #0d1117; --card: #1a212b; --line: #3a434f; --strong: #6cb6ff; color-scheme: dark; }
    /* Drawn for light colors. */
    .mermaid svg { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { font: clamp(17px, 2.2vw, 66px)/1.4 system-ui, sans-serif; scroll-snap-type: y mandatory; scroll-padding: 0; }
body { margin: 0; color: var(--text); background: var(--back); }
section { position: relative; min-height: 100vh; padding: 3vw 5vw; display: flex; align-items: center; scroll-snap-align: start; }
section + section { break-before: page; }
section > div { width: 100%; }
footer { position: absolute; right: 2vw; bottom: 1vw; font-size: .6rem; color: var(--soft); }
h1, h2 { margin: 0 0 .5em; line-height: 1.2; color: var(--strong); text-wrap: balance; }
h1 { font-size: 2.4em; }
h2 { font-size: 1.4em; }
.label { font-size: .8em; color: var(--soft); margin: 0 0 .4em; }
.answer h2 { font-size: 1em; color: var(--soft); font-weight: normal; }
.question h2 { font-size: 1.8em; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
pre { font-size: max(11px, min(.9em, 86vw / var(--columns) / .62)); line-height: 1.25; background: var(--card); padding: .8em; border-radius: .3em; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .35em .6em; text-align: left; vertical-align: top; }
a { color: inherit; }
.scrolls { overflow-x: auto; margin: 0; }
.mermaid { text-align: center; }
.mermaid svg { width: 100%; max-width: min(100%, calc(var(--natural) * 2.2)) !important; max-height: calc(var(--high) * .7); }
@media (orientation: portrait) {
    .mermaid svg { min-width: calc(var(--natural) * .75); max-height: none; }
    section { padding: 1.5rem 1rem; }
    table { font-size: .8em; }
    td, th { min-width: 5em; padding: .35em .5em .35em 0; }
}
@media print { @page { size: 1280px 720px; margin: 0; } html { font-size: 28px; } section { height: 720px; overflow: hidden; } }
</style>
"""

CONTROLS = """<script>
const slides = [...document.querySelectorAll('section')];
const pages = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, ' ': 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Home: -Infinity, End: Infinity };

/* Makes the text of a slide smaller until it fits; on a phone the slide is longer instead. */
function fit() {
    const high = 0.86 * Math.min(innerHeight, innerWidth * 9 / 16);
    for (const content of document.querySelectorAll('section > div')) {
        content.style.fontSize = '';
        for (let size = 95; innerWidth > innerHeight && size >= 50 && content.offsetHeight > high; size -= 5) content.style.fontSize = size + '%';
    }
}

mermaid.initialize({ startOnLoad: false, theme: 'default' });
const drawn = mermaid.run({ querySelector: '.mermaid', suppressErrors: true }).then(() => {
    for (const picture of document.querySelectorAll('.mermaid svg')) picture.style.setProperty('--natural', picture.viewBox.baseVal.width + 'px');
    fit();
});
addEventListener('resize', fit);
addEventListener('keydown', event => {
    const step = pages[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const here = slides.findIndex(slide => slide.getBoundingClientRect().bottom > innerHeight / 2);
    slides[Math.max(0, Math.min(slides.length - 1, here + step))].scrollIntoView();
});
</script>
"""

# What is asked of the slides in a frame of some size; the answer goes into the page around it, whose elements the browser prints.
QUESTIONS = """<script>
drawn.then(() => {
    const faults = [];
    slides.forEach((slide, n) => {
        const place = slide.getBoundingClientRect();
        const fault = text => faults.push(`slide ${n + 1}: ${text}`);
        for (const picture of slide.querySelectorAll('.mermaid')) {
            const svg = picture.querySelector('svg');
            if (!svg || svg.getAttribute('aria-roledescription') === 'error' || svg.getBoundingClientRect().height < 30) fault('a picture is not drawn');
        }
        if (innerWidth < innerHeight) return;
        if (place.height > innerHeight + 1) fault(`it is ${place.height} pixels high`);
        const texts = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT), range = document.createRange();
        while (texts.nextNode()) {
            if (!texts.currentNode.data.trim() || texts.currentNode.parentElement.closest('style')) continue;
            range.selectNodeContents(texts.currentNode);
            const { left, right, top, bottom } = range.getBoundingClientRect();
            const text = texts.currentNode.data.trim().slice(0, 40);
            if (left < place.left || right > place.right || top < place.top || bottom > place.bottom) fault(`beyond it: ${text}`);
            if (bottom - top < 12) fault(`too small: ${text}`);
        }
    });
    const wide = document.scrollingElement.scrollWidth;
    if (wide > innerWidth) faults.push(`${wide} pixels wide on a screen of ${innerWidth}`);
    const answer = document.createElement('pre');
    answer.id = 'answer';
    answer.textContent = JSON.stringify({ faults, slides: slides.length, pictures: document.querySelectorAll('.mermaid svg').length });
    top.document.body.append(answer);
});
</script>
"""


def check(file):
    text = "".join(chapter.read_text() for chapter in CHAPTERS)
    questions, pictures = text.count(f"<summary>{PREDICT}"), text.count("\n```mermaid\n")
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked.html")
        asked.write_text(Path(file).read_text() + QUESTIONS)
        # A window has a least width, a frame has none.
        for wide, high in ((1280, 720), (390, 844)):
            frame = Path(folder, "frame.html")
            frame.write_text(f'<iframe src=asked.html width={wide} height={high}></iframe>')
            page = browser(folder, frame, "--allow-file-access-from-files", "--hide-scrollbars", "--dump-dom")
            answer = re.search(r'<pre id="answer">(.*?)</pre>', page)
            found = json.loads(html.unescape(answer[1])) if answer else {"faults": ["the pictures are not drawn"], "slides": 0, "pictures": 0}
            faults += [f"{wide}x{high}: {fault}" for fault in found["faults"]]
            if found["pictures"] != pictures:
                faults.append(f"{wide}x{high}: {found['pictures']} pictures are drawn, and the chapters have {pictures}")
        printed = Path(folder, "slides.pdf")
        browser(folder, file, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
        pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed.read_bytes()))
    if pages != found["slides"]:
        faults.append(f"{found['slides']} slides are printed on {pages} pages")
    if found["slides"] < len(CHAPTERS) + pictures + 2 * questions:
        faults.append(f"{found['slides']} slides are too few for the chapters")
    print(*faults, f"{found['slides']} slides, {found['pictures']} pictures, {questions} questions, {len(faults)} faults", sep="\n")
    return 1 if faults else 0


def browser(folder, file, *flags):
    """What chromium prints for a file. Virtual time lets all scripts end first."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--virtual-time-budget=60000", *flags]
    asked = subprocess.run([*command, Path(file).resolve().as_uri()], check=True, capture_output=True, text=True, timeout=120)
    return asked.stdout


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check", file]:
            sys.exit(check(file))
        case [file] if not file.startswith("-"):
            write(file)
        case _:
            sys.exit(__doc__)

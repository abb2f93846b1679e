#!/usr/bin/env python3
"""Makes small files of the page's pictures: record.py FROM TO, see record.sh.

FROM has see-it-light.png, see-it-dark.png and the folder frames; each frame is shown for 0.1 s.
"""
import sys
from collections import Counter
from pathlib import Path

from PIL import Image, ImageChops

FRAME_MS = 100
LAST_MS = 1500
COLORS = 250
MOST_BYTES = 1_500_000


def palette_of(frames):
    """The colors that most pixels have: all areas keep theirs, and the edges of letters take the nearest."""
    counts = Counter()
    for frame in frames[:: max(1, len(frames) // 20)]:
        counts.update({color: count for count, color in frame.getcolors(1 << 24)})
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color, _ in counts.most_common(COLORS) for part in color])
    return palette


def recording(files, target):
    """Writes an animated GIF in which each frame has only what has changed; all share one palette."""
    frames = [Image.open(file).convert("RGB") for file in files]
    palette = palette_of(frames)
    pictures, shown, durations = [], None, []
    for frame in frames:
        picture = frame.quantize(palette=palette, dither=Image.Dither.NONE)
        changed = shown and ImageChops.difference(frame, shown).convert("L").point(lambda value: value and 255)
        if changed and not changed.getbbox():
            durations[-1] += FRAME_MS
            continue
        if changed:
            # Index COLORS is no color of the palette: where it stands, the frame before is seen.
            picture.paste(COLORS, mask=ImageChops.invert(changed))
        pictures.append(picture)
        durations.append(FRAME_MS)
        shown = frame
    durations[-1] += LAST_MS
    pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=durations, loop=0, transparency=COLORS, disposal=1, optimize=False)
    return len(pictures), sum(durations) / 1000


def main(source, target):
    for name in ("see-it-light.png", "see-it-dark.png"):
        Image.open(source / name).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target / name, optimize=True)
        print(f"{target / name}: {(target / name).stat().st_size} bytes")
    files = sorted((source / "frames").glob("*.png"))
    count, seconds = recording(files, target / "see-it.gif")
    size = (target / "see-it.gif").stat().st_size
    print(f"{target / 'see-it.gif'}: {size} bytes, {count} frames, {seconds:.1f} s")
    return 0 if size <= MOST_BYTES else f"the recording has more than {MOST_BYTES} bytes"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])) if len(sys.argv) == 3 else __doc__)

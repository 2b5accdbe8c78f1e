"""Text of others made printable: a model's output, and whatever a rented pod says, must not steer a terminal.

The one place for it. Rich markup is another matter: hand the result to `rich` as a `Text`, never as a plain string.
"""

import re
import unicodedata

# Cc: C0 and C1 controls; Cf: bidi, zero-width and tag characters; Cs: lone surrogates; Co: private use; Zl, Zp: odd
# line ends.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_HALF = re.compile("[\ud800-\udfff]")
_KEPT = frozenset("\n\t")
LINE_LIMIT = 4_000
MESSAGE_LIMIT = 40_000


def visible(text: str) -> str:
    """The text with every control, bidi, zero-width or private-use character written as a visible one.

    C0 controls become their control pictures (ESC is ␛), all others their code point (⟨U+202E⟩). Line feeds and tabs
    stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in _KEPT or c.isprintable() or unicodedata.category(c) not in _HIDDEN else _picture(c) for c in text
    )


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it. Half surrogate pairs stand for bytes of an argument, a path or stdin that are none."""
    return text.isascii() or not _HALF.search(text)


def clip(text: str, limit: int) -> str:
    """At most `limit` characters of a text, made visible, saying how many were left out."""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])} … [{len(text) - limit:,} more characters]"


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Text as one line of bounded length: no line feed in it can begin a line that looks like ours.

    A carriage return, with which progress bars begin again, becomes a blank.
    """
    return clip(text.rstrip("\r\n").replace("\r", " ").replace("\n", "␊"), limit)


def message(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Text of several lines, such as an error with the last lines of a log; each line is bounded, and the whole."""
    return "\n".join(one_line(line) for line in clip(text, limit).split("\n"))


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def duration(seconds: float) -> str:
    """A time in hours, minutes and seconds, the two largest of them: `1 h 05 min`."""
    minutes, rest = divmod(round(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

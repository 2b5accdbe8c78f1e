"""Words, sentences, echoes and repetition: what the scorers see in a text. Pure functions, no item knowledge."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import sentencex

MAX_SAME_TRIGRAM = 2
MIN_DISTINCT_1 = 0.5
MIN_BEGINNING = 5
MIN_REPEATED_RUN = 5
MONEY = "$€£¥₹₩₽₿₺₴₪₫฿¢"
_WORD = re.compile(
    rf"""
    (?<![\w.'])[^\W\d_](?:\.[^\W\d_])+(?!\w)                  # initials: "U.S.", "p.m.", "e.g."
    | (?<!\w)(?:Ph\.D|[BMD]\.(?:Sc|Phil|Ed))(?!\w)
    | (?<![\w'-])(?:AB|[A-HJ-Z])-(?![\w-])                    # a mark or a blood group: "A-", "O-"
    | (?<![\w'-])(?:ab|[a-hj-z])-(?=[.!]?\s*\Z)
    | (?:                                                     # what stands before a number:
        (?:(?<![\w.)\]%])[-+±<>≤≥≠≈~√])?                      #   a sign, but no hyphen of a range or a compound
        (?:[{MONEY}]\s?-?)?(?:(?<![\w.])\.)?(?=\d)            #   a currency, a point without its zero
      )?
      [^\W_]+
      (?:['&-][^\W_]+ | (?<=\d)[.,:/^⁄]\d[^\W_]*)*                  # "don't", "AT&T", "3.5", "10:30", "1/2"
      (?:(?<=\d)[ ]?(?:[%‰]|°(?:[ ]?[CFK]\b)?|[{MONEY}](?![ ]?\d)))?
      (?:[+#♯♭⁺⁻]+(?!\w))?                                    # "C++", "C#", "A+"
    """,
    re.VERBOSE,
)
_MATHS = re.compile(r"\$(?=\S)([^$\n]*[^\s$])\$(?![\w$])")
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "«": "»", "»": "«", "‹": "›", "「": "」", "『": "』", "`": "`"}
BULLETS = "-*•+–—‣◦▪·●○■□"
_ENUMERATION = re.compile(rf"(?m)^\s*(?:\d{{1,2}}[.)]|[{BULLETS}])(?:\s+|$)")
# What nobody sees: soft hyphens, characters of no width, marks of direction, and the styles of emoji.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]"
)
_PLAIN_FORMS = str.maketrans(
    dict.fromkeys("’‘ʼʻ＇´", "'") | dict.fromkeys("‐‑﹣－", "-") | dict.fromkeys("\u00a0\u202f\u205f\u3000", " ")
    | dict.fromkeys(range(0x2000, 0x200B), " ")
)  # fmt: skip
_MINUS = re.compile(rf"(?<![\d)]\s)−\s?(?=[\d.{MONEY}])|−|(?:^|(?<=[(=:])|(?<=[(=:] )|(?<=is ))–(?=[\d.{MONEY}])")
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻♯", "0123456789+-#")
# "The sea calls... I listen." are two sentences, and so are "It was 3.5 m. Everyone fled."; sentencex sees one in each.
_SENTENCE_END = re.compile(
    r"(?:\.{3,}|…)[\"')\]”]*\s+(?=[\"'(“]?[A-Z])|\d\s?(?:[kcm]?m|k?g|mg|ft|in|lbs?|oz|h|min|s|ml|l|mph)\.\s+(?=[A-Z])"
)
# And it sees two where one of these stands before a number or goes on in lower case.
_ABBREVIATED = re.compile(
    r"(?<!\w)(?:(?i:approx|vols?|figs?|ch|chap|pp?|pt|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec|dept|sec|art|nr|ca|c|est|max|eq|ed|ver|v|ext|tel|ep|op)|Nos?)\.\s*$"
)
_CLOSERS = "\"'”’)]}»›」』*_`"
_SMILEY = re.compile(r"\s[:;=]-?[)(DPp3]+$")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]{2}")
_THOUSANDS = re.compile(r"\D{0,2}\d{1,3}(?:,\d{3})+(?:\.\d+)?\D?")
_AROUND = re.compile(r"^\W+|\W+$")
_CLITIC = re.compile(r"(?<=\w)'(?:s|re|m|ve|d|ll)$", re.IGNORECASE)
END_MARKS = (".", "!", "?", "…", "。", "！", "？", "؟", "।", "‽")

Words = tuple[str, ...]


def composed(text: str) -> str:
    """The text as a reader sees it: composed letters (NFC), plain spaces, straight apostrophes, and nothing unseen."""
    if text.isascii():
        return text
    text = _UNSEEN.sub("", unicodedata.normalize("NFC", text)).translate(_PLAIN_FORMS)
    return _MINUS.sub("-", text)


@lru_cache(maxsize=65536)
def words_of(text: str) -> Words:
    """The words of a text as written: letters and digits, with inner apostrophes and hyphens ("don't", "well-known").

    What changes the meaning of a number or a letter belongs to its word: "-7", "€5", "5%", "1/2", "C++", "O-".
    """
    plain = composed(text)
    return tuple(_WORD.findall(_MATHS.sub(r"\1", plain) if "$" in plain else plain))


@lru_cache(maxsize=65536)
def folded_words(text: str) -> Words:
    """The words of a text, case-folded and without accents, so that "Reykjavík" and "Reykjavik" are one word."""
    return tuple(_fold(word) for word in words_of(text))


@lru_cache(maxsize=65536)
def _fold(word: str) -> str:
    if not word.isascii():
        word = re.sub(r"(?<=\d)[⁰¹²³⁴-⁹]+", lambda power: "^" + power[0], word).translate(_POWERS)
        word = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", word)
        plain = unicodedata.normalize("NFKD", word.casefold()).replace("⁄", "/")
        word = "".join(letter for letter in plain if not unicodedata.combining(letter))
    word = word.lower()
    return word if word.isalnum() or not any(letter.isdigit() for letter in word) else _fold_number(word)


def _fold_number(word: str) -> str:
    """A number in one form: the sign first, then the currency: "5 €" is "€5", "+7" is "7", "1,000" is "1000"."""
    word = re.sub(r"(?<=\d)\s+(?=\D)", "", word).removeprefix("+")
    if _THOUSANDS.fullmatch(word):
        word = word.replace(",", "")
    if word[-1] in MONEY:
        sign = "-" if word.startswith("-") else ""
        word = sign + word[-1] + word[len(sign) : -1]
    word = re.sub(rf"^([{MONEY}])\s?(-?)", r"\2\1", word)
    return re.sub(r"(?<!\d)\.(?=\d)", "0.", word)


@lru_cache(maxsize=16384)
def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text that hold a word. A line break ends a sentence; a list marker is no sentence.

    Within a line, sentencex (rule-based, abbreviations known) decides.
    """
    parted = _SENTENCE_END.sub(lambda end: end[0].rstrip() + "\n", _ENUMERATION.sub("", composed(text)))
    parts: list[str] = []
    for line in filter(None, (line.strip() for line in parted.splitlines())):
        begun = len(parts)
        for part in sentencex.segment("en", line):
            goes_on = len(parts) > begun and _ABBREVIATED.search(parts[-1]) and _continues(part)
            parts[-1:] = [parts[-1] + part] if goes_on else [*parts[-1:], part]
    return tuple(part.strip() for part in parts if words_of(part))


def _continues(part: str) -> bool:
    """Whether a part cannot begin a sentence: it starts with a digit or a small letter."""
    first = part.lstrip()[:1]
    return first.isdigit() or first.islower()


def lines_of(text: str) -> list[str]:
    """The non-empty lines of a text, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def ending(text: str) -> str:
    """The text up to its last mark or word, without closing quotation marks, brackets, emphasis and emoji."""
    text = _SMILEY.sub("", text.rstrip())
    while text and (text[-1].isspace() or text[-1] in _CLOSERS or unicodedata.category(text[-1]) in ("So", "Sk")):
        text = text[:-1]
    return text


def unquote(text: str) -> str:
    """The text without surrounding whitespace and without one pair of quotation marks around the whole of it."""
    text = text.strip()
    if len(text) > 2 and text[-1] in _QUOTES.get(text[0], "") and not {text[0], text[-1]} & set(text[1:-1]):
        return text[1:-1].strip()
    return text


def is_one_word(words: Words) -> bool:
    """Whether a text is a single word. A run of Chinese or Japanese writing is not: it has no spaces between words."""
    return len(words) == 1 and not _UNSPACED.search(words[0])


@lru_cache(maxsize=65536)
def without_clitics(words: Words) -> Words:
    """The words without "'s" and other short forms of verbs: "the towel's pink", "she's 12", "India's capital"."""
    return tuple(_CLITIC.sub("", word) for word in words)


def find_phrase(words: Sequence[str], phrase: Sequence[str], start: int = 0) -> int:
    """Where `phrase` first stands in `words` from `start` on, as whole consecutive words; -1 if nowhere."""
    size = len(phrase)
    if size == 0 or phrase[0] not in words:
        return -1
    first, wanted = phrase[0], tuple(phrase)
    for at in range(start, len(words) - size + 1):
        if words[at] == first and tuple(words[at : at + size]) == wanted:
            return at
    return -1


def _without_marks(words: Words) -> Words:
    """The words without signs and symbols around them: "A+A+A+" says "A" three times."""
    return tuple(word if word.isalnum() else _AROUND.sub("", word) for word in words)


def is_degenerate(words: Words) -> bool:
    """Whether some 3-gram stands more than twice, or fewer than half of the words are different ones.

    The latter also of a beginning of five words or more: what follows a stammer does not mend it.
    """
    if len(words) < 3:
        return False
    words = _without_marks(words)
    if len(set(words)) < MIN_DISTINCT_1 * len(words):
        return True
    if len(words) < MIN_BEGINNING:
        return False
    seen: set[str] = set()
    for size, word in enumerate(words, 1):
        seen.add(word)
        if size >= MIN_BEGINNING and len(seen) < MIN_DISTINCT_1 * size:
            return True
    return max(Counter(zip(words, words[1:], words[2:], strict=False)).values()) > MAX_SAME_TRIGRAM


def is_repeated(text: str) -> bool:
    """Whether a text of two words or more is one unit written twice or more, or holds the same sentence twice.

    Five words or more need not be the whole of it: a run that stands twice in a row, or a sentence with which another
    begins ("I like my old dog. I like my old dog so"), is repeated too.
    """
    words = _without_marks(folded_words(text))
    if len(words) < 2:
        return False
    letters = "".join(words)
    if letters in (letters + letters)[1:-1]:
        return True
    if len(words) < 4:
        return False
    if _stands_twice_in_a_row(words):
        return True
    sentences = [_without_marks(folded_words(sentence)) for sentence in sentences_of(text)]
    if len(sentences) < 2:
        return False
    return len(set(sentences)) < len(sentences) or any(
        len(one) >= MIN_REPEATED_RUN and one == other[: len(one)] for one, other in permutations(sentences, 2)
    )


def _stands_twice_in_a_row(words: Words) -> bool:
    """Whether some run of at least `MIN_REPEATED_RUN` words is followed by itself."""
    for size in range(MIN_REPEATED_RUN, len(words) // 2 + 1):
        same = 0
        for left, right in zip(words, words[size:], strict=False):
            same = same + 1 if left == right else 0
            if same == size:
                return True
    return False


def longest_shared_run(left: Words, right: Words) -> int:
    """The length in words of the longest consecutive run that both texts hold."""
    if not left or not right:
        return 0
    positions: dict[str, list[int]] = {}
    for at, word in enumerate(right):
        positions.setdefault(word, []).append(at)
    best = 0
    previous: dict[int, int] = {}
    for word in left:
        current = {at: previous.get(at - 1, 0) + 1 for at in positions.get(word, ())}
        if current:
            best = max(best, *current.values())
        previous = current
    return best


def is_echo(instruction: str, text: str, *, free_text: bool) -> bool:
    """Whether an output gives the instruction back.

    Always: the whole instruction stands in the output, or is it. For `free_text` (a text the model must make up), also
    an output that is a part of the instruction, or shares with it a run of at least 4 words and 60% of the instruction.
    """
    asked, given = folded_words(instruction), folded_words(text)
    if not asked or not given:
        return False
    if given == asked or (len(asked) >= 3 and find_phrase(given, asked) >= 0):
        return True
    if not free_text:
        return False
    if find_phrase(asked, given) >= 0:
        return True
    return longest_shared_run(given, asked) >= max(4, 0.6 * len(asked))

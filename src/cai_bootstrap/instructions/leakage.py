"""Does a training text give a held-out item away? By its fact, its text, a run of eight words, or its wording.

Instructions of one skill share a frame ("Write one sentence that ...") whatever they ask, and a frame alone is no leak.
A shared run of eight words is a leak only if it contains a topic word of the item; a similar wording only if it
contains more than half of the topic words. Topic words are those that not all items of the template share.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from cai_bootstrap.instructions.text import without_possessives, word_list
from cai_bootstrap.records import EvalItem

RUN = 8
SIMILAR = 0.7
REASONS = ("fact", "text", "entity", "ngram", "similar")
# Words that name the relation of a fact key; `entity` needs one of them, or the answer, beside the entity.
RELATIONS = {
    "capital": {"capital", "city", "government"},
    "currency": {"currency", "money", "pay"},
    "element_symbol": {"symbol", "abbreviation", "chemical"},
    "antonym": {"opposite", "antonym"},
    "plural": {"plural"},
    "past_tense": {"past"},
    "after": {"after", "follows"},
    "before": {"before", "precedes"},
}  # fmt: skip
WORLDLY = ("capital", "currency", "element_symbol")
_COMMON_TEXT = """
a an the of in on at to for from by with and or but not is are was were be been has have had do does did it its
this that these those i you he she we they my your his her our their what which who how when where why as if so
than then there here one two three four five six yes no please can could will would write give name say tell
"""
_COMMANDS = frozenset(
    ("give", "write", "say", "tell", "name", "put", "make", "find", "turn", "use", "take", "add", "copy")
)
_OBJECTS = frozenset(
    ("me", "the", "a", "an", "its", "it", "one", "two", "down", "only", "this", "that", "these", "your", "back")
)
_COMMON = frozenset(_COMMON_TEXT.split())


class LeakageIndex:
    """Held-out items, indexed once, against which any number of training texts is held.

    Time grows with the number of texts, not with texts times items: similar wordings are sought only among items that
    share a word of what they are about.
    """

    def __init__(self, items: Iterable[EvalItem]) -> None:
        held = list(items)
        self._words = [word_list(item.instruction) for item in held]
        self._facts = {item.fact_key for item in held if item.fact_key}
        self._texts = {tuple(words) for words in self._words}
        self._about = about = self._subjects(held)
        self._runs: set[tuple[str, ...]] = set()
        self._by_word: dict[str, set[int]] = defaultdict(set)
        for number, (words, subject) in enumerate(zip(self._words, about, strict=True)):
            self._runs.update(run for run in _runs(words) if not subject or not subject.isdisjoint(run))
            if len(words) >= RUN:
                for word in subject or set(words):
                    self._by_word[word].add(number)
        self._entities: dict[str, list[tuple[tuple[str, ...], set[str], list[tuple[str, ...]]]]] = defaultdict(list)
        for item in held:
            relation, _, entity = (item.fact_key or "").partition(":")
            named = tuple(word_list(entity))
            if relation in RELATIONS and named:
                golds = [tuple(word_list(gold)) for gold in item.gold] if relation in WORLDLY else []
                answers = [gold for gold in golds if gold]
                self._entities[named[0]].append((named, RELATIONS[relation], answers))

    def _subjects(self, items: Sequence[EvalItem]) -> list[set[str]]:
        """What each item is about: its words that not all items of its template share.

        Common words and numbers count only where there is nothing else: "at most 8 words" is a limit, not a subject.
        """
        shared: dict[str, set[str]] = {}
        sizes: dict[str, int] = defaultdict(int)
        for item, words in zip(items, self._words, strict=True):
            shared[item.template] = shared.get(item.template, set(words)) & set(words)
            sizes[item.template] += 1
        frames = set(_COMMON).union(*(frame for name, frame in shared.items() if sizes[name] > 1))
        found = []
        for item, words in zip(items, self._words, strict=True):
            own = set(words) - (shared[item.template] if sizes[item.template] > 1 else frames)
            telling = {word for word in own - _COMMON if not word.isdigit()}
            found.append(telling or own)
        return found

    def hit(self, text: str, fact_key: str | None = None) -> str | None:
        """Why the text must not be trained on (one of `REASONS`), or None.

        A text whose fact is known is judged by that fact; in any other text a held-out entity is looked for, beside a
        word that names its relation or (for facts about the world) beside its answer.
        """
        if fact_key is not None and fact_key in self._facts:
            return "fact"
        words = word_list(text)
        if tuple(words) in self._texts:
            return "text"
        if fact_key is None and self._names_a_fact(without_possessives(words)):
            return "entity"
        if any(run in self._runs for run in _runs(words)):
            return "ngram"
        return "similar" if len(words) >= RUN and self._resembles(words) else None

    def hits(self, texts: Iterable[str], fact_keys: Iterable[str | None] | None = None) -> list[str | None]:
        """`hit` for many texts, in order."""
        if fact_keys is None:
            return [self.hit(text) for text in texts]
        return [self.hit(text, key) for text, key in zip(texts, fact_keys, strict=True)]

    def _names_a_fact(self, words: list[str]) -> bool:
        present: set[str] | None = None
        for place, word in enumerate(words):
            for entity, relation, answers in self._entities.get(word, ()):
                if tuple(words[place : place + len(entity)]) != entity or _commands(words, place):
                    continue
                present = set(words) if present is None else present
                if relation & present or any(_within(answer, words) for answer in answers):
                    return True
        return False

    def _resembles(self, words: list[str]) -> bool:
        from rapidfuzz.distance import Indel

        present = set(words)
        shared = Counter(number for word in present for number in self._by_word.get(word, ()))
        return any(
            Indel.normalized_similarity(words, self._words[number], score_cutoff=SIMILAR) >= SIMILAR
            for number, count in shared.items()
            if count > len(self._about[number]) / 2
        )


def _runs(words: list[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))


def _commands(words: list[str], place: int) -> bool:
    """Whether the word says what to do ("Give the plural of …", "Could you write …") and names no entity.

    It begins the text, follows "you" or "please", or has an object: "The word is hot. Give me its opposite."
    """
    if words[place] not in _COMMANDS:
        return False
    following = words[place + 1] if place + 1 < len(words) else ""
    return place == 0 or words[place - 1] in ("you", "please") or following in _OBJECTS


def _within(part: tuple[str, ...], words: list[str]) -> bool:
    return any(tuple(words[i : i + len(part)]) == part for i in range(len(words) - len(part) + 1))

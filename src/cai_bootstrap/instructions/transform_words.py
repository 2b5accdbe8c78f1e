"""Fills of further transformations: the words of a text are joined, picked, added, swapped, or cleaned of marks."""

from functools import lru_cache
from random import Random

from cai_bootstrap.instructions.fill import Fill, exact, gold_answer
from cai_bootstrap.instructions.materials import different_words, material, phrase, row
from cai_bootstrap.instructions.pool import capitalised, handwritten, nouns, words
from cai_bootstrap.instructions.registry import skill

# What is put between words: its name, and the spellings that are right.
JOINERS = {"hyphens": ("-",), "plus signs": (" + ", "+"), "slashes": ("/", " / "), "semicolons": ("; ", ";"),
           "underscores": ("_",), "the word \"and\"": (" and ",), "equals signs": (" = ", "=")}  # fmt: skip
MARKED = ("{0}, {1}!", "{0}! {1}?", "{0}; {1}.", "{0}, {1}?", "{0}: {1}!", "{0}... {1}!", "Oh, {0}, {1}.", "Well, {0}!",
          "Yes, {0}: {1}.", "Wait! {0}, {1}?")  # fmt: skip
MARKS = str.maketrans("", "", ".,;:!?")
FINDABLE = {"number": "n", "city": "city", "name": "name", "day of the week": "day", "month": "month", "color": "color",
            "animal": "animal"}  # fmt: skip


@skill("join_with", "transformation", hard=True, rare=True)
def _join_with(random: Random) -> Fill:
    mark, spellings = random.choice(list(JOINERS.items()))
    parts = row(random, 2, 5)
    text = " ".join(parts)
    return exact({"list": text, "mark": mark}, [spelling.join(parts) for spelling in spellings], content=(text,))


@skill("swap_ends", "transformation", hard=True, rare=True)
def _swap_ends(random: Random) -> Fill:
    parts = different_words(random)[:7] if random.random() < 0.6 else row(random, 2, 5)
    text = " ".join(parts)
    return exact({"text": text}, [" ".join([parts[-1], *parts[1:-1], parts[0]])], content=(text,))


@skill("two_words", "transformation", hard=True, rare=True)
def _two_words(random: Random) -> Fill:
    parts, end = different_words(random), random.choice(("first", "last"))
    pair = parts[:2] if end == "first" else parts[-2:]
    return exact({"text": " ".join(parts), "end": end}, [" ".join(pair)], content=(" ".join(parts),))


@skill("add_word", "transformation", hard=True)
def _add_word(random: Random) -> Fill:
    parts, word, end = different_words(random, 2), random.choice(nouns()), random.choice(("beginning", "end"))
    text = " ".join(parts)
    result = f"{word} {text}" if end == "beginning" else f"{text} {word}"
    return exact({"text": text, "word": word, "end": end}, [result], content=(text,))


@skill("title_case", "transformation", hard=True)
def _title_case(random: Random) -> Fill:
    text = phrase(random).lower()
    return exact({"text": text}, [" ".join(capitalised(word) for word in text.split())], content=(text,))


@skill("remove_punctuation", "transformation", hard=True, rare=True)
def _remove_punctuation(random: Random) -> Fill:
    while True:
        text = random.choice(MARKED).format(phrase(random), phrase(random))
        plain = text.translate(MARKS)
        if len(text.split()) <= 12:
            return exact({"text": capitalised(text)}, [capitalised(plain)], content=(text,))


@skill("first_letters", "transformation", hard=True, rare=True)
def _first_letters(random: Random) -> Fill:
    parts = row(random, 3, 5)
    letters = [part[0].lower() for part in parts]
    outputs = [gap.join(letters) for gap in (" ", "", ", ")]
    outputs += [output.upper() for output in outputs]
    outputs += [gap.join(part[0] for part in parts) for gap in (" ", "", ", ")]
    return exact({"list": " ".join(parts)}, list(dict.fromkeys(outputs)), content=(" ".join(parts),))


@skill("find_in_text", "transformation")
def _find_in_text(random: Random) -> Fill:
    """The one number, name, city, day, month, color or animal of a text."""
    what, slot = random.choice(list(FINDABLE.items()))
    template = random.choice(_naming(slot))
    values = material(random)
    if values["city"] in words()["names"]:
        return _find_in_text(random)
    text = template.format_map(values)
    gold = values["animals"] if slot == "animal" and "{animals}" in template else values[slot]
    rivals = [word for word in text.split() if word != gold]
    return gold_answer({"text": text, "what": what}, [gold], content=(text,), rivals=rivals, in_context=True)


@lru_cache(maxsize=8)
def _naming(slot: str) -> list[str]:
    """The hand-written texts that hold exactly one word of a kind."""
    forms = {"name": ("{name}", "{other}"), "animal": ("{animal}", "{animals}", "{a_animal}")}.get(
        slot, (f"{{{slot}}}",)
    )
    unclear = ("{noun}", "{nouns}", "{a_noun}", "{food}") if slot == "animal" else ()
    return [
        text
        for text in handwritten()["sentences"]
        if sum(map(text.count, forms)) == 1 and not any(map(text.count, unclear))
    ]

"""Whether a text can have been made in so many tokens: all that the text alone can say about it.

A tokenizer cuts at white space before it joins anything, so each word begins a token of its own; pieces that cross a
space are rare (of Gemma's 262,144 pieces one does: `> </`), except in vocabularies that join common phrases (SuperBPE,
arXiv 2503.13423: up to four words). Hence two bounds. A finished text, which alone can count as followed, has at most
one word for each token, and its end took a token too. One that was cut off, often a base model running on, may have
`PHRASE` words for each. Scripts without spaces are bound by characters: the longest pieces of published vocabularies
are runs of 128 spaces or dashes, and `LONGEST_PIECE` is twice that.

The same rule is asked while outputs are made (`assess`), so a tokenizer that breaks it is met in the first batch and
not when hours of a GPU have gone into a file that nobody believes.
"""

PHRASE = 8  # words in a token of a text that was cut off: twice what a vocabulary of phrases has
LONGEST_PIECE = 256  # characters in a token


def length_fault(text: str, finished: bool, max_new_tokens: int, *, stopped: bool) -> str | None:
    """Why this text cannot have been made in `max_new_tokens` tokens, or None.

    `stopped`: a stop rule may have ended it, in which case its end took no token of its own.
    """
    tokens = max_new_tokens - (finished and not stopped)
    words, characters = len(text.split()), len(text)
    for count, most, what in (
        (words, tokens * (1 if finished else PHRASE), "words"),
        (characters, tokens * LONGEST_PIECE, "characters"),
    ):
        if count > most:
            how = "finished" if finished else "cut-off"
            return f"a {how} response of {count} {what} cannot have been made in {max_new_tokens} tokens"
    return None

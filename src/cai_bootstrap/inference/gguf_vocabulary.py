"""A tokenizer as llama.cpp's SentencePiece reads it: of each token id the text, a score and a type.

llama.cpp joins the two neighbours whose union has the highest score; a byte-pair tokenizer joins those whose merge
stands first in its list. The two agree if a score falls with the place of the piece's merges, and if every way to split
a piece into two pieces is a merge: that is looked at here, on the tokenizer's own file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_bootstrap.files import read_json

TOKENIZER = "tokenizer.json"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # SentencePiece's types, as GGUF counts them
SPLIT_OFF = -1000.0  # the score of tokens that are split off before pieces are joined
SPACE = "▁"
BYTES = {f"<0x{byte:02X}>" for byte in range(256)}
_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_NO_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


@dataclass(frozen=True)
class Vocabulary:
    """Texts, scores and types by token id, such as `"▁the"`, -4.0 and 1. `adds_bos`: BOS stands before each text."""

    tokens: list[str]
    scores: list[float]
    types: list[int]
    adds_bos: bool


def sentencepiece_vocabulary(folder: Path, *, rows: int) -> Vocabulary:
    """The vocabulary of the tokenizer in `folder`, filled up with unused tokens to `rows` (the embedding's).

    Raises ValueError saying what about it llama.cpp's SentencePiece would do otherwise.
    """
    if not (folder / TOKENIZER).is_file():
        raise ValueError(f"there is no {TOKENIZER}")
    content = read_json(folder / TOKENIZER, foreign=True)
    model = content["model"]
    _must_be_sentencepiece(content, model)
    ids: Mapping[str, int] = model["vocab"]
    # An added token is split off a text as it was typed, where no space is written as "▁" yet: one of these is a piece
    # like any other.
    listed = content.get("added_tokens") or []
    added = {token["content"]: token for token in listed if token["special"] or SPACE not in token["content"]}
    placed = {**{token["content"]: token["id"] for token in listed}, **ids}
    if max(placed.values()) >= rows:
        raise ValueError(f"the tokenizer has {max(placed.values()) + 1} tokens, the embedding {rows} rows")
    places = _places(model["merges"], ids, set(added))
    tokens = [f"[PAD{number}]" for number in range(rows)]
    scores, types = [SPLIT_OFF] * rows, [UNUSED] * rows
    for text, number in placed.items():
        tokens[number] = text
        types[number] = _type(text, added.get(text), model.get("unk_token"))
        if types[number] == NORMAL:
            scores[number] = -float(places.get(text, len(places)))
        elif types[number] == BYTE:
            scores[number] = 0.0
    return Vocabulary(tokens, scores, types, _adds_bos(content.get("post_processor")))


def _must_be_sentencepiece(content: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    normalizer = content.get("normalizer")
    if normalizer is not None and normalizer.get("type") == "Sequence" and len(normalizer["normalizers"]) == 1:
        normalizer = normalizer["normalizers"][0]
    for fits, fault in (
        (model.get("type") == "BPE", "is no byte-pair one"),
        (model.get("byte_fallback") and model["vocab"].keys() >= BYTES, "does not fall back to bytes"),
        (not model.get("ignore_merges") and not model.get("dropout"), "does not always follow its merges"),
        (normalizer == _NORMALIZER, f"changes a text otherwise than by writing {SPACE} for each space"),
        (content.get("pre_tokenizer") in (None, _NO_SPLIT), "splits a text before it joins pieces"),
    ):
        if not fits:
            raise ValueError(f"the tokenizer {fault}")


def _places(merges: Sequence[Any], ids: Mapping[str, int], split_off: set[str]) -> dict[str, int]:
    """For each piece that merges make, its place in their order. Raises ValueError if scores cannot say the same."""
    places: dict[str, int] = {}
    pairs = set()
    last = None
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        piece = left + right
        if piece != last and piece in places:
            raise ValueError(f"the tokenizer's merges of {piece!r} do not stand together")
        places.setdefault(piece, len(places))
        pairs.add((left, right))
        last = piece
    for piece in ids:
        if piece in split_off:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids and (left, right) not in pairs:
                raise ValueError(f"the tokenizer does not join {left!r} and {right!r}, though {piece!r} is a piece")
    return places


def _type(text: str, added: Mapping[str, Any] | None, unknown: str | None) -> int:
    if added is not None:
        return CONTROL if added["special"] else USER_DEFINED
    if text == unknown:
        return UNKNOWN
    return BYTE if text in BYTES else NORMAL


def _adds_bos(processor: Mapping[str, Any] | None) -> bool:
    """Whether one token stands before each text. Raises ValueError for any other addition."""
    if processor is None:
        return False
    kinds: list[str] = [next(iter(part)) for part in processor.get("single", [])]
    if processor.get("type") != "TemplateProcessing" or kinds not in (["SpecialToken", "Sequence"], ["Sequence"]):
        raise ValueError("the tokenizer puts other tokens around a text than one before it")
    return kinds[0] == "SpecialToken"

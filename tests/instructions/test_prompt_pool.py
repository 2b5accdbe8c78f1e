"""The shipped prompts: enough of them, and nothing of train stands in what is held out."""

from collections import Counter
from itertools import combinations
from pathlib import Path

from rapidfuzz.distance import Indel

from cai_bootstrap.instructions.diversity import KnownTexts
from cai_bootstrap.instructions.exemplars import draw
from cai_bootstrap.instructions.leakage import LeakageIndex
from cai_bootstrap.instructions.prompt_kind import kind_of
from cai_bootstrap.instructions.prompt_pool import SPLITS, shipped_prompts
from cai_bootstrap.instructions.prompt_set import load_prompt_set
from cai_bootstrap.instructions.sampler import sample
from cai_bootstrap.instructions.skills import skills
from cai_bootstrap.instructions.text import normalised, word_list
from cai_bootstrap.judging.suite import load_suite
from cai_bootstrap.records import TASK_TYPES, Prompt

SHA256 = "4080d98fc8bf9c66d600ab02a81da76cdccdefd343019dcc9a0a3126864c4b2c"
PARTICLES = {"a", "an", "the", "out", "up", "of", "for", "in", "turns", "sour"}


def of(split: str) -> list[Prompt]:
    return [prompt for prompt in shipped_prompts() if prompt.split == split]


def test_there_are_enough_prompts_wordings_and_topics() -> None:
    train, dev, test, unseen = map(of, SPLITS)
    assert len(train) >= 1000
    assert len({prompt.wording for prompt in train}) >= 40
    assert len({prompt.topic for prompt in train}) >= 150
    assert len(dev) >= 200
    questions = [prompt for prompt in test if prompt.kind == "question"]
    assert len(questions) >= 200
    assert len({prompt.wording for prompt in questions}) >= 50
    assert max(Counter(prompt.wording for prompt in test).values()) <= 5
    assert len([prompt for prompt in unseen if prompt.kind != "request"]) >= 100


def test_a_quarter_of_the_training_prompts_are_requests_and_unseen_kinds_do_not_train() -> None:
    train = Counter(prompt.kind for prompt in of("train"))
    assert set(train) == {"question", "request"}
    assert 0.2 <= train["request"] / train.total() <= 0.3
    first = Counter(prompt.kind for prompt in of("train")[:200])
    assert 0.15 <= first["request"] / 200 <= 0.35
    assert min(Counter(prompt.kind for prompt in of("unseen")).values()) >= 40
    assert set(Counter(prompt.kind for prompt in of("unseen"))) == {"yes_no", "statement", "request", "long"}


def test_every_prompt_is_of_the_kind_that_it_is_listed_under() -> None:
    assert [prompt for prompt in shipped_prompts() if kind_of(prompt.text) != prompt.kind] == []


def test_no_two_splits_share_a_wording_or_a_word_of_a_topic() -> None:
    for a, b in combinations(SPLITS, 2):
        assert {prompt.wording for prompt in of(a)} & {prompt.wording for prompt in of(b)} == set()
        words = [{word for p in of(split) for word in word_list(p.topic)} - PARTICLES for split in (a, b)]
        assert words[0] & words[1] == set()


def test_no_held_out_prompt_resembles_a_training_prompt() -> None:
    train = [word_list(prompt.text) for prompt in of("train")]
    for split in SPLITS[1:]:
        for prompt in of(split):
            words = word_list(prompt.text)
            assert max(Indel.normalized_similarity(words, other) for other in train) < 0.75, prompt.text


def test_no_prompt_gives_a_stage_1_item_or_a_training_exemplar_away() -> None:
    index = LeakageIndex([*load_suite("stage1").items, *load_suite("stage1-dev").items])
    assert [prompt.text for prompt in shipped_prompts() if index.hit(prompt.text)] == []
    shown = [
        exemplar.instruction
        for kind in TASK_TYPES
        for skill in skills(kind)
        for exemplar in draw(skill, kind, 4, seed=1, exclude="")
    ]
    known = KnownTexts([word_list(text) for text in [*shown, *(made.instruction for made in sample(1000, seed=1))]])
    assert [prompt.text for prompt in shipped_prompts() if known.near(word_list(prompt.text))] == []


def test_no_prompt_stands_twice_and_no_slot_is_left_open() -> None:
    texts = [prompt.text for prompt in shipped_prompts()]
    assert len({normalised(text) for text in texts}) == len(texts)
    assert len({prompt.id for prompt in shipped_prompts()}) == len(texts)
    assert all("{" not in text and text[0].isupper() and text[-1] in ".?" and "  " not in text for text in texts)
    assert not [text for text in texts if " a a" in text.lower() or " an b" in text.lower()]


def test_the_shipped_prompts_are_frozen_whatever_the_seed() -> None:
    first, second = load_prompt_set(None, seed=0), load_prompt_set(None, seed=7)
    assert first == second
    assert first.name == "open-questions"
    assert first.sha256 == SHA256
    assert first.counts.read == first.counts.kept == len(shipped_prompts())
    assert (first.counts.train, first.counts.unseen) == (len(first.train), len(first.unseen))


def test_the_page_about_prompts_tells_the_counts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    for split in SPLITS:
        prompts = of(split)
        count = f"| {split} | {len(prompts):,} | "
        row = next(line for line in page.splitlines() if line.startswith(count))
        assert str(len({prompt.wording for prompt in prompts})) in row
        assert row.endswith(f"| {len({prompt.topic for prompt in prompts})} |")
        assert all(str(count) in row for count in Counter(prompt.kind for prompt in prompts).values())

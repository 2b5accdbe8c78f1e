"""The collapse watch's reasons, TRL's EOS rules on token ids, and the last look at the pairs."""

from pathlib import Path
from typing import Any

import pytest
from test_training import pairs_of

from cai_bootstrap.inference.models import PreparedModel
from cai_bootstrap.records import PreferencePair
from cai_bootstrap.training.collate import Collator
from cai_bootstrap.training.pairs import Asking, rows_of, tokenise
from cai_bootstrap.training.preflight import check_pairs
from cai_bootstrap.training.watch import CollapseWatch, Look, read_looks, write_looks

START = Look(0, strict_rate=0.4, eos_rate=0.5, silent_rate=0.0, distinct=0.9, words=5.0, chosen_per_token=-2.0)
BOS, EOS = 1, 2


def watching(*looks: Look) -> CollapseWatch:
    prepared = PreparedModel("m", Path(), "r", "w", "t")
    watch = CollapseWatch([], prepared, precision="fp32", batch_size=1, max_new_tokens=8)
    watch.looks = list(looks)
    return watch


def later(**changes: Any) -> Look:
    return Look(**{**vars(START), "step": 50, **changes})


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (later(), None),
        (later(strict_rate=0.9, eos_rate=1.0, words=1.0, distinct=1.0), None),  # learning to be short is no collapse
        (later(silent_rate=0.51), "51% of the dev answers are empty"),
        (later(silent_rate=0.5), None),
        (later(strict_rate=0.19), "the dev rate fell from 40% to 19%"),
        (later(strict_rate=0.2), None),
        (later(chosen_per_token=-3.6), "the chosen answers became 1.6 nats a token less likely"),
        (later(chosen_per_token=-3.4), None),
        (later(distinct=0.2), "the dev answers repeat themselves"),
        (later(distinct=0.2, strict_rate=0.6), None),  # better answers that repeat a word are better answers
    ],
)
def test_the_watch_names_its_reason(look: Look, reason: str | None) -> None:
    found = watching(START, look).reason_to_stop()
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_the_watch_compares_with_the_best_rate_so_far() -> None:
    assert watching(START, later(strict_rate=0.8), later(strict_rate=0.39)).reason_to_stop() is not None


def test_a_base_that_was_silent_before_is_not_called_collapsed() -> None:
    silent = later(step=0, silent_rate=0.8, strict_rate=0.0)
    assert watching(silent, later(silent_rate=0.8, strict_rate=0.0)).reason_to_stop() is None


def test_looks_are_kept_for_a_resumed_training(tmp_path: Path) -> None:
    write_looks(tmp_path / "looks.json", [START, later()])
    assert read_looks(tmp_path / "looks.json") == [START, later()]
    assert read_looks(tmp_path / "absent.json") == []


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def pair(**changes: Any) -> PreferencePair:
    return pairs_of(1)[0].model_copy(update=changes)


def test_eos_stands_once_after_chosen_and_after_a_rejected_answer_that_the_model_ended(tokenizer: Any) -> None:
    made = tokenise([pair(rejected_finished=True)], tokenizer, max_length=128)[0]
    assert made.prompt_ids[0] == BOS
    assert made.prompt_ids.count(BOS) == 1
    assert made.chosen_ids[-1] == made.rejected_ids[-1] == EOS
    assert made.chosen_ids.count(EOS) == made.rejected_ids.count(EOS) == 1
    assert BOS not in made.chosen_ids + made.rejected_ids


def test_no_eos_after_a_rejected_answer_that_was_cut_off(tokenizer: Any) -> None:
    made = tokenise([pair(rejected_finished=False)], tokenizer, max_length=128)[0]
    assert EOS not in made.rejected_ids
    assert made.chosen_ids[-1] == EOS


def test_an_answer_beyond_the_length_is_cut_and_loses_its_eos(tokenizer: Any) -> None:
    made = tokenise([pair(rejected="b" * 200, rejected_finished=True)], tokenizer, max_length=64)[0]
    assert len(made.prompt_ids) + len(made.rejected_ids) == 64
    assert EOS not in made.rejected_ids


def test_a_pair_asked_bare_has_its_line_break_before_both_answers(tokenizer: Any) -> None:
    """The same ids in the same order as when it is asked plainly; only where the prompt ends is another place."""
    plain = tokenise([pair(rejected_finished=False)], tokenizer, max_length=128)[0]
    bare = tokenise([pair(rejected_finished=False)], tokenizer, max_length=128, asking=Asking(bare_share=1.0))[0]
    (line_break,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert plain.prompt_ids == [*bare.prompt_ids, line_break]
    assert bare.chosen_ids == [line_break, *plain.chosen_ids]
    assert bare.rejected_ids == [line_break, *plain.rejected_ids]


def test_no_share_asks_every_pair_as_before(tokenizer: Any) -> None:
    plain = tokenise(pairs_of(), tokenizer, max_length=128)
    assert tokenise(pairs_of(), tokenizer, max_length=128, asking=Asking(0.0, seed=3)) == plain


def test_which_pairs_are_bare_follows_from_id_and_seed_alone() -> None:
    pairs = [pair(id=f"pair-{n}") for n in range(2000)]
    bare = {one.id for one in pairs if Asking(0.5, seed=1).is_bare(one)}
    assert 900 < len(bare) < 1100
    assert bare == {one.id for one in reversed(pairs) if Asking(0.5, seed=1).is_bare(one)}
    assert bare > {one.id for one in pairs if Asking(0.2, seed=1).is_bare(one)}
    assert bare != {one.id for one in pairs if Asking(0.5, seed=2).is_bare(one)}
    assert all(Asking(1.0, seed=1).is_bare(one) for one in pairs)
    assert not any(Asking(0.0, seed=1).is_bare(one) for one in pairs)


def test_a_prompt_that_ends_without_a_line_break_is_left_as_it_is() -> None:
    cued = pair(prompt="Q: Say sun.\nA:")
    assert Asking(1.0).texts(cued) == (cued.prompt, cued.chosen, cued.rejected)


def test_the_last_look_sees_pairs_as_they_are_asked(tokenizer: Any) -> None:
    pairs = [pair(id=f"pair-{n}", prompt=f"Say sun {n}.\n", chosen=f"sun {n}") for n in range(12)]
    plain = check_pairs(pairs, tokenizer, max_length=128)
    bare = check_pairs(pairs, tokenizer, max_length=128, asking=Asking(1.0))
    assert (bare.faults, bare.sound) == ({}, pairs)
    assert bare.figures.tokens["prompt"]["mean"] == plain.figures.tokens["prompt"]["mean"] - 1
    assert bare.figures.tokens["chosen"]["mean"] == plain.figures.tokens["chosen"]["mean"] + 1


def test_the_collator_sees_no_second_eos_and_finds_the_answers_only(tokenizer: Any) -> None:
    """Chosen rows first, then rejected ones; the places cover each answer's tokens and nothing else."""
    ids = tokenise([pair(rejected_finished=False)], tokenizer, max_length=128)
    batch = Collator(tokenizer.pad_token_id)(rows_of(ids))
    chosen, rejected = batch["input_ids"].tolist()
    assert chosen.count(EOS) == 1
    assert rejected.count(EOS) == 0
    assert batch["input_ids"].reshape(-1)[batch["answers"]].tolist() == [*ids[0].chosen_ids, *ids[0].rejected_ids]
    assert batch["lengths"].tolist() == [len(ids[0].chosen_ids), len(ids[0].rejected_ids)]


def test_the_collator_pads_as_trls_does(tokenizer: Any) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    ids = tokenise(pairs_of(), tokenizer, max_length=128)
    theirs = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(rows_of(ids))
    ours = Collator(tokenizer.pad_token_id)(rows_of(ids, [(-1.0, -2.0)] * len(ids)))
    for name in ("input_ids", "attention_mask"):
        assert ours[name].equal(theirs[name])
    assert theirs["completion_mask"].reshape(-1).nonzero()[:, 0].equal(ours["answers"])
    assert ours["ref_rejected_logps"].tolist() == [-2.0] * len(ids)


def test_rounded_shapes_add_padding_and_places_that_are_none(tokenizer: Any) -> None:
    ids = tokenise(pairs_of(), tokenizer, max_length=128)
    plain = Collator(tokenizer.pad_token_id)(rows_of(ids))
    rounded = Collator(tokenizer.pad_token_id, width_step=16, answer_step=64)(rows_of(ids))
    assert (rounded["input_ids"].shape[1] % 16, len(rounded["answers"]) % 64) == (0, 0)
    count = len(plain["answers"])
    assert rounded["answers"][count:].tolist() == [rounded["input_ids"].numel()] * (len(rounded["answers"]) - count)
    words = [batch["input_ids"].reshape(-1)[batch["answers"][:count]] for batch in (plain, rounded)]
    assert words[0].equal(words[1])


def test_chosen_rows_alone_are_the_first_half(tokenizer: Any) -> None:
    ids = tokenise(pairs_of(), tokenizer, max_length=128)
    both = Collator(tokenizer.pad_token_id)(rows_of(ids))
    chosen = Collator(tokenizer.pad_token_id, rejected=False)(rows_of(ids))
    assert len(chosen["input_ids"]) == len(ids)
    assert chosen["lengths"].equal(both["lengths"][: len(ids)])


def test_sound_pairs_pass_the_last_look(tokenizer: Any) -> None:
    found = check_pairs(pairs_of(), tokenizer, max_length=128)
    assert found.faults == {}
    assert found.figures.pairs == 10


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"chosen": " "}, "empty_chosen"),
        ({"rejected": ""}, "empty_rejected"),
        ({"chosen": "b" * 300}, "truncated_chosen"),
        ({"chosen": "sun<eos>"}, "eos_not_once"),
        ({"prompt": "Say sun.<eos>\n"}, "eos_in_prompt"),
        ({"prompt": "<bos>Say sun.\n"}, "bos_not_once"),
        ({"chosen": "same", "rejected": "same", "rejected_finished": True}, "same_texts"),
        ({"chosen": "sun\nInstruction: next"}, "run_on_chosen"),
        ({"chosen": "sun\n\nriver"}, "run_on_chosen"),
        ({"prompt": "Tell me what shines all day.\n", "chosen": "Tell me what shines all day. Sun"}, "echoing_chosen"),
        ({"rejected": "river<eos>", "rejected_finished": False}, "eos_after_cut_off_rejected"),
    ],
)
def test_every_fault_of_a_pair_is_found(tokenizer: Any, changes: dict[str, Any], fault: str) -> None:
    found = check_pairs([*pairs_of(8), pair(id="bad", **changes)], tokenizer, max_length=128)
    assert found.faults == {"bad": fault}
    assert len(found.sound) == 8


def test_duplicates_and_leaks_do_not_train(tokenizer: Any) -> None:
    rows = [*pairs_of(3), pair(id="again"), pair(id="leaky", prompt="Say France.\n")]
    found = check_pairs(rows, tokenizer, max_length=128, leaks=lambda text: "entity" if "France" in text else None)
    assert found.faults == {"again": "duplicate", "leaky": "leak_entity"}
    assert found.fault_counts == {"duplicate": 1, "leak_entity": 1}


@pytest.mark.parametrize(
    ("changes", "critiques"),
    [
        ({"chosen": "France sun"}, {}),
        ({"rejected": "river France"}, {}),
        ({"chosen_id": "r1"}, {"r1": "It forgets France."}),
        ({"rejected_id": "r2"}, {"r2": "It forgets France."}),
    ],
    ids=["chosen", "rejected", "critique of the chosen", "critique of the rejected"],
)
def test_every_text_of_a_pair_and_its_critiques_are_held_against_the_suite(
    tokenizer: Any, changes: dict[str, Any], critiques: dict[str, str]
) -> None:
    def leaks(text: str) -> str | None:
        return "entity" if "France" in text else None

    rows = [*pairs_of(3), pair(id="leaky", prompt="Name something.\n", **changes)]
    assert check_pairs(rows, tokenizer, max_length=128, leaks=leaks, critiques=critiques).faults == {
        "leaky": "leak_entity"
    }
    assert check_pairs(rows, tokenizer, max_length=128, critiques=critiques).faults == {}

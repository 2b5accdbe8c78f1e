"""A trained model asked by other programs: a chat template and generation settings that do what `cai ask` does.

The model was taught with single plain prompts, so its template renders a conversation's last user message as
`plain_prompt` does, after the tokens that the tokenizer itself puts before a text. What it was never taught (system
messages, tools, answers that somebody else began) is refused with a reason instead of being left out in silence.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai_bootstrap.inference.engine import plain_prompt
from cai_bootstrap.inference.tokens import Tokens

TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"
# Texts in which a template or a tokenizer may do something of its own: spaces and line breaks at both ends, quotes,
# letters beyond ASCII, and what Jinja itself would read as markup.
PROBES = (
    "Name three colours.",
    "  two spaces before, two after  ",
    "\tA tab.\nA second line.\n\nA third.",
    "\n\nAfter line breaks, and before them.\n\n",
    "A line that Windows ended.\r\n",
    "'single' \"double\" `back` \\n \\ <b>&amp;</b>",
    "Größe, naïve café, 東京, Ελλάδα, 🙂",
    "{{ messages }} {% if x %} {# comment #} %} }}",
)
_TEMPLATE = """\
{#- Asks as the model was taught: the last user message and a line break, nothing else. Earlier turns are not shown. -#}
{%- if tools or documents -%}
{{- raise_exception("This model was not taught to use tools or documents: leave them out, or write what it should know \
into the user message.") -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message["role"] not in ["user", "assistant"] -%}
{{- raise_exception("This model was taught with single user messages: it has no '" ~ message["role"] ~ "' message. \
Write what it should do into the user message.") -}}
{%- endif -%}
{%- endfor -%}
{%- if not messages or messages[-1]["role"] != "user" -%}
{{- raise_exception("The last message must be the user's: this model answers it, and goes on with no answer that was \
begun.") -}}
{%- endif -%}
{%- set question = messages[-1]["content"] -%}
{%- if question is not string -%}
{{- raise_exception("The content of the user message must be a text; this model reads nothing else.") -}}
{%- endif -%}
{%- set question = question.rstrip("\\n") -%}
{%- if not question.strip() -%}
{{- raise_exception("An empty user message cannot be asked.") -}}
{%- endif -%}
{{- HEAD ~ question ~ "\\n" -}}
"""
# Some tokenizers put a space before a text that begins with none, but not after a BOS that is written into the text.
_FIRST_SPACE = ' ~ ("" if question.startswith(" ") else " ")'


def plain_template(tokenizer: Any) -> str | None:
    """A chat template by which `tokenizer` gives the token ids of `plain_prompt`, or None if there is none.

    The ids are compared on `PROBES`. `add_generation_prompt` changes nothing: no header stands before an answer, and
    the line break ends the question. None for a tokenizer that appends tokens to a text, or that encodes a text after
    its first token otherwise than alone.
    """
    encoded: list[int] = tokenizer("x")["input_ids"]
    alone: list[int] = tokenizer("x", add_special_tokens=False)["input_ids"]
    before = encoded[: len(encoded) - len(alone)]
    if before + alone != encoded:
        return None
    head = "".join(tokenizer.convert_ids_to_tokens(before))
    for lead in ("", _FIRST_SPACE):
        template = _TEMPLATE.replace("HEAD", json.dumps(head, ensure_ascii=False) + lead)
        if all(_rendered(tokenizer, template, text) == _asked(tokenizer, text) for text in PROBES):
            return template
    return None


def _asked(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(plain_prompt(text.rstrip("\n")))["input_ids"]
    return ids


def _rendered(tokenizer: Any, template: str, text: str) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        chat_template=template,
        add_generation_prompt=True,
        return_dict=False,
    )
    return ids


def generation_settings(base: Path, tokenizer: Any, *, max_new_tokens: int) -> dict[str, Any]:
    """What `generation_config.json` says of a model that was trained from the one in the folder `base`: greedy, at
    most `max_new_tokens` tokens, ended by the tokens that end an answer of `cai ask`.

    Nothing of the base's own sampling settings is kept, since nothing was measured with them.
    """
    ends = Tokens(tokenizer, _eos_of(base)).ends
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": pad}
    return {
        **{name: id for name, id in ids.items() if id is not None},
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "do_sample": False,
        "max_new_tokens": max_new_tokens,
    }


def _eos_of(folder: Path) -> int | Sequence[int] | None:
    """What a model's own generation settings call an end, as transformers reads them when it loads the model."""
    from transformers import AutoConfig, GenerationConfig

    try:
        settings = GenerationConfig.from_pretrained(folder)
    except OSError:
        settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    eos: int | Sequence[int] | None = settings.eos_token_id
    return eos

"""An Ollama Modelfile that asks a model as `cai ask` does: Ollama's own template language, and its settings.

The template does what the chat template does (`inference/plain_chat.py`), less BOS, which Ollama adds by itself where
the GGUF file says so. Go's templates have no way to raise an error; calling a text as if it were a function ends the
request with that text in the error. Ranging over a number needs Go 1.24, with which Ollama is built since 2025.
"""

import json
from collections.abc import Sequence

MODELFILE = "Modelfile"
_REFUSAL = '{{- call "%s" -}}'
_TEMPLATE = """\
{{- /* Asks as the model was taught: the last user message and a line break. Earlier turns are not shown. */ -}}
{{- $role := "" -}}{{- $question := "" -}}{{- $blank := true -}}
{{- range .Messages -}}
{{- if and (ne .Role "user") (ne .Role "assistant") -}}
ROLE
{{- end -}}
{{- $role = .Role -}}{{- $question = .Content -}}
{{- end -}}
{{- if ne $role "user" -}}
LAST
{{- end -}}
{{- range len $question -}}
{{- $rest := len (slice $question 1) -}}
{{- if ne (slice $question $rest) "\\n" -}}{{- break -}}{{- end -}}
{{- $question = slice $question 0 $rest -}}
{{- end -}}
{{- range $place := len $question -}}
{{- if gt (index $question $place) 32 -}}{{- $blank = false -}}{{- break -}}{{- end -}}
{{- end -}}
{{- if $blank -}}
EMPTY
{{- end -}}
{{- $question -}}{{- "\\n" -}}"""
_REASONS = {
    "ROLE": "This model was taught with single user messages. Write what it should do into the user message.",
    "LAST": "The last message must be the user's: this model answers it, and goes on with no answer that was begun.",
    "EMPTY": "An empty user message cannot be asked.",
}
# Ollama's own defaults sample, and punish repetition even where the temperature is 0.
_GREEDY = {"temperature": "0", "top_k": "1", "repeat_penalty": "1", "presence_penalty": "0", "frequency_penalty": "0"}


def ollama_template() -> str:
    """The template, in Go's language: the last user message less its last line breaks, and one line break."""
    template = _TEMPLATE
    for mark, reason in _REASONS.items():
        template = template.replace(f"\n{mark}\n", "\n" + _REFUSAL % reason + "\n")
    return template


def modelfile(weights: str, *, ends: Sequence[str], max_new_tokens: int) -> str:
    """The Modelfile of the GGUF file `weights` beside it. `ends`: the texts of the tokens that end an answer."""
    settings = [*_GREEDY.items(), ("num_predict", str(max_new_tokens))]
    stops = [("stop", json.dumps(text, ensure_ascii=False)) for text in ends]
    lines = [
        "# ollama create NAME -f Modelfile; ollama run NAME",
        f"FROM ./{weights}",
        f'TEMPLATE """{ollama_template()}"""',
        *(f"PARAMETER {name} {value}" for name, value in [*settings, *stops]),
    ]
    return "\n".join(lines) + "\n"

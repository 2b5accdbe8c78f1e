"""A tiny causal language model made on the spot: random weights, a byte-level tokenizer, a wish for line breaks.

Its answers mean nothing; they are short, differ, and sometimes end, which is what the pipeline's mechanics need.
"""

import json
import random
import string
import sys
from pathlib import Path


def make_model(folder: Path, *, seed: int = 0, chat_template: bool = False) -> Path:
    """Save a tiny Phi model (its head has a bias) and a byte-level tokenizer with BOS, as transformers expects them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<pad>", "<bos>", "<eos>", *alphabet, "ĠA", "ĠB"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "A"), ("Ġ", "B")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )
    if chat_template:
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    torch.manual_seed(seed)
    config = PhiConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.8,
        attn_implementation="eager",
    )  # fmt: skip
    model = PhiForCausalLM(config).eval()
    letters = [vocabulary[c] for c in "abcdefghijklmnopqrstuvwxyzĠ"]
    with torch.no_grad():
        bias = torch.full((len(vocabulary),), -20.0)
        bias[letters] = 0.0
        bias[vocabulary["Ċ"]] = 14.0
        bias[2] = 6.0
        model.lm_head.bias.copy_(bias)
    model.generation_config.eos_token_id = 2
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def make_gemma(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny Gemma 3 model, one of its six layers global, and a tokenizer that is SentencePiece's, of letters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = ["▁", "\n", *string.ascii_letters, *".,?!'"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "a"), ("o", "o"), ("▁", "▁"), ("\n", "\n")]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *("".join(merge) for merge in merges)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(pieces) + 3, hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=2,
        num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256, sliding_window=8, max_position_embeddings=256,
        pad_token_id=0, eos_token_id=1, bos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, norm in model.named_parameters():
            if name.endswith("norm.weight"):
                norm.normal_(0.0, 0.2)  # as trained ones are: what a file leaves out of them shows
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def make_suite(path: Path, split: str, count: int = 8) -> Path:
    """A user's own suite with `count` items that the tiny model may or may not follow."""
    draw = random.Random(split)
    kinds = ("question", "completion", "generation", "transformation")
    rows = []
    for n in range(count):
        word = "".join(draw.choice("bdfgklmnprtvz") + draw.choice("aeiou") for _ in range(4))
        rows.append(
            {
                "id": f"{split}-{n:03d}", "split": split, "type": kinds[n % 4], "template": f"{split}.{n // 2}",
                "instruction": f"Say at most five words about {word}.", "scorer": "checks",
                "args": {"checks": [{"check": "words", "max": 5}]}, "gold": [], "fact_key": None, "source": "test",
                "difficulty": "easy", "skill": "",
            }
        )  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))

"""Judges the storyteller by the file that is shipped, its 8-bit blocks decoded: perplexity, right answers, and whether stories keep their topic.

    python models/training/text/evaluate.py [STORYTELLER.gguf]

The engine gives the same perplexity and answers from held_out.py's files; this is for whoever trains.
"""

import collections
import sys

import gguf
import numpy as np
import torch
from torch.nn import functional as F

import held_out
import words
from corpus import END, START, examination, turn
from network import Sizes, Storyteller
from tokenizers import Tokenizer
from train import ROOT

PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
WINDOW = 512


def shipped(path):
    """The network with the numbers that the file stands for."""
    reader = gguf.GGUFReader(path)
    state = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in tensor.shape][::-1])
        names = tensor.name.split(".")
        if names[0] == "blk":
            name = f"model.layers.{names[1]}.{PARTS[names[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[names[0]]
        state[name] = torch.from_numpy(np.array(values, dtype=np.float32))
    model = Storyteller(Sizes(vocabulary=len(state["model.embed_tokens.weight"])))
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def perplexity(model, ids):
    """Of windows of 512 tokens, each from its own beginning, as `lampyris quantize --text` counts."""
    loss, count = 0.0, 0
    for first in range(0, len(ids), WINDOW):
        window = torch.tensor([ids[first : first + WINDOW]])
        if window.shape[1] > 1:
            loss += F.cross_entropy(model(window[:, :-1])[0], window[0, 1:], reduction="sum").item()
            count += window.shape[1] - 1
    return float(np.exp(loss / count))


@torch.no_grad()
def answered(model, tokenizer, question):
    """Whether the likeliest tokens after a question are exactly its answer and the end of the turn."""
    prompt = "".join(turn(m["role"], m["content"]) for m in question["messages"]) + f"{START}assistant\n"
    before, after = tokenizer.encode(prompt).ids, tokenizer.encode(question["answers"][0] + END).ids
    logits = model(torch.tensor([before + after[:-1]]))[0, len(before) - 1 :]
    return logits.argmax(-1).tolist() == after


@torch.no_grad()
def told(model, tokenizer, request, generator, most=320):
    """A story as the shipped settings sample it: temperature 0.7, 40 likeliest tokens, 0.95 of the mass."""
    ids = tokenizer.encode(turn("user", request) + f"{START}assistant\n").ids
    end, past, made, fed = tokenizer.token_to_id(END), [[] for _ in model.model.layers], [], ids
    while len(made) < most:
        logits = model(torch.tensor([fed]), past)[0, -1] / 0.7
        values, places = logits.topk(40)
        share = values.softmax(0)
        share[share.cumsum(0) - share > 0.95] = 0
        token = int(places[torch.multinomial(share, 1, generator=generator)])
        if token == end:
            break
        made.append(token)
        fed = [token]
    return made


def topics(model, tokenizer, count):
    """How stories keep to what they began with: names of the second half that were there before, and what was asked for."""
    names = set(words.GIRLS + words.BOYS)
    generator = torch.Generator().manual_seed(5)
    figures = collections.Counter()
    for number in range(count):
        e = examination(20_000 + number)
        made = told(model, tokenizer, e["request"], generator)
        half = len(made) // 2
        first, second = tokenizer.decode(made[:half]), tokenizer.decode(made[half:])
        spoken = lambda text: [w for w in "".join(c if c.isalpha() else " " for c in text).split() if w in names]
        before = set(spoken(e["request"])) | set(spoken(first))
        later = spoken(second)
        figures["length"] += len(made)
        figures["long"] += len(made) >= 100
        figures["names"] += len(later)
        figures["kept"] += sum(name in before for name in later)
        figures["whole"] += all(name in before for name in later)
        asked = spoken(e["request"]) + [
            w for w in e["request"].rstrip(".?").split() if w in words.THINGS + words.ANIMALS
        ]
        figures["asked"] += len(asked)
        figures["given"] += sum(word in first + second for word in asked)
    return figures


def main():
    torch.set_num_threads(1)
    path = sys.argv[1] if len(sys.argv) > 1 else ROOT / "models/bundled/storyteller/storyteller.gguf"
    model = shipped(path)
    tokenizer = Tokenizer.from_file(str(ROOT / "target/training/text/storyteller/tokenizer.json"))
    print(f"perplexity of held_out.txt: {perplexity(model, tokenizer.encode(held_out.text()).ids):.4f}")
    right, total = collections.Counter(), collections.Counter()
    for question in held_out.questions():
        asked = question["messages"][-1]["content"]
        first = "What colour" if asked.startswith("What colour") else asked.split()[0]
        good = answered(model, tokenizer, question)
        for key in (question["kind"], *([first] if question["kind"] == "answerable" else [])):
            right[key] += good
            total[key] += 1
    for key in total:
        print(f"  {key}: {100 * right[key] / total[key]:.2f} % of {total[key]} answers are exactly right")
    count = 100
    f = topics(model, tokenizer, count)
    print(f"{count} stories of {f['length'] / count:.0f} tokens on average, {f['long']} of 100 tokens or more")
    print(
        f"  {100 * f['kept'] / f['names']:.2f} % of {f['names']} names in second halves were there before; in {f['whole']} stories all were"
    )
    print(
        f"  {100 * f['given'] / max(1, f['asked']):.2f} % of {f['asked']} names, animals and things that were asked for are in the story"
    )


if __name__ == "__main__":
    main()

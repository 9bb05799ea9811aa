"""Trains the storyteller from nothing and writes a folder of Hugging Face's files.

    python models/training/text/train.py                   one command: makes the corpus, trains, writes the folder
    python models/training/text/train.py --device cuda     the same on a GPU
    python models/training/text/train.py --smoke           a few steps; fails unless the loss falls

A run that was cut off goes on from its last part. The folder, target/training/text/storyteller, holds 32-bit floats;
`lampyris quantize` makes the file of it that is shipped (README.md beside these scripts).
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn import functional as F

import tokens
from corpus import END, PAD, START, document
from network import Sizes, Storyteller
from priming import prime

ROOT = pathlib.Path(__file__).resolve().parents[3]
PART = 1024  # documents that are made, sorted by length and forgotten at a time
VOCABULARY, VOCABULARY_DOCUMENTS = 2048, 5000  # tokens, and documents that they are learned from
ANSWERED = 3.0  # weight of an answer's tokens among those of everything else
SHORT = 14  # tokens of the longest answer that counts as one


def tokenizer_in(work, size, documents):
    """The vocabulary, trained once and kept."""
    kept = work / f"tokenizer-{size}-{documents}.json"
    if not kept.exists():
        work.mkdir(parents=True, exist_ok=True)
        tokens.trained(size, documents).save(str(kept))
    return Tokenizer.from_file(str(kept))


def batches(tokenizer, seed, part, count, budget, context):
    """The batches of one part: documents of about the same length, at most `budget` tokens with their padding.

    Half of the documents are exercises at first, one of seven from the fifth part on.
    """
    drills = max(0.15, 0.5 - 0.1 * part)
    texts = [document(f"{seed} {part} {n}", drills) for n in range(count)]
    rows = sorted((e.ids[:context] for e in tokenizer.encode_batch(texts)), key=len)
    made, first = [], 0
    while first < len(rows):
        last = first + 1
        while last < len(rows) and (last + 1 - first) * len(rows[last]) <= budget:
            last += 1
        padded = np.full((last - first, len(rows[last - 1])), -100, dtype=np.int64)
        for row, ids in zip(padded, rows[first:last]):
            row[: len(ids)] = ids
        made.append(padded)
        first = last
    order = np.random.default_rng([seed, part]).permutation(len(made))
    return [made[k] for k in order]


def weights_of(rows, opening, end):
    """The weight of each token of some documents: more in short answers, none in padding."""
    weights = (rows >= 0).astype(np.float32)
    for row, weight in zip(rows, weights):
        starts = np.flatnonzero((row[:-1] == opening[0]) & (row[1:] == opening[1])) + len(opening)
        ends = np.flatnonzero(row == end)
        for start in starts:
            after = ends[ends >= start][:1]
            if len(after) and after[0] - start < SHORT:
                weight[start : after[0] + 1] = ANSWERED
    return weights


def loss_of(model, rows, opening, end, device, half):
    """The weighted mean cross entropy over all tokens but the first of each document; -100 marks what is none."""
    weights = torch.from_numpy(weights_of(rows, opening, end)[:, 1:]).to(device)
    rows = torch.from_numpy(rows).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=half):
        logits = model(rows[:, :-1].clamp(min=0))
    losses = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(), reduction="none").view(weights.shape)
    return (losses * weights).sum() / weights.sum(), losses.detach().sum() / (rows[:, 1:] >= 0).sum()


def optimizers(model, rate):
    """Muon for the matrices of the layers, AdamW for the table and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=rate * 1.5, betas=(0.9, 0.98), weight_decay=0.0)]


def export(model, tokenizer, out):
    tokens.save(tokenizer, out)
    state = {name: value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    config = model.sizes.config(tokenizer.token_to_id(END), tokenizer.token_to_id(PAD))
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def averaged(model, processes):
    """Gives every process the mean of all processes' gradients, in one message."""
    if processes > 1:
        gradients = [p.grad for p in model.parameters()]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, (flat / processes).split([g.numel() for g in gradients])):
            gradient.copy_(mean.view_as(gradient))


def train(rank, options):
    """Trains as process number `rank`; the first one writes and tells."""
    processes = options.processes
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{options.meeting}", rank=rank, world_size=processes)
    say = (lambda words: print(words, flush=True)) if rank == 0 else (lambda words: None)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    work, device = options.work, options.device
    count, parts, budget = (32, 3, 2048) if options.smoke else (PART, options.parts, options.budget)
    tokenizer = tokenizer_in(work, *((512, 300) if options.smoke else (VOCABULARY, VOCABULARY_DOCUMENTS)))
    opening, end = tokenizer.encode(f"{START}assistant\n").ids, tokenizer.token_to_id(END)
    sizes = Sizes(vocabulary=(tokenizer.get_vocab_size() + 31) // 32 * 32)
    model = Storyteller(sizes)
    prime(model)
    model.to(device)
    say(f"{sum(p.numel() for p in model.parameters())} parameters, {tokenizer.get_vocab_size()} tokens")
    half = not options.smoke
    chosen = optimizers(model, options.rate)
    kept = work / f"checkpoint-{options.seed}.pt"
    first, seen = 0, 0
    if kept.exists() and not options.smoke:
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, s in zip(chosen, state["optimizers"]):
            optimizer.load_state_dict(s)
        first, seen = state["part"] + 1, state["seen"]
        say(f"going on from part {first}")
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers(model, options.rate)]
    losses, started, step = [], time.time(), 0
    for part in range(first, parts):
        made = batches(tokenizer, options.seed, part, count, budget, sizes.context)
        made = made[rank : len(made) - len(made) % processes : processes]
        total = 0.0
        for number, rows in enumerate(made):
            progress = (part + number / len(made)) / parts
            warm = min(1.0, (part * len(made) + number + 1) / 50)
            factor = warm * min(1.0, max(0.02, (1 - progress) / options.decay))
            for optimizer, base in zip(chosen, rates):
                for group, rate in zip(optimizer.param_groups, base):
                    group["lr"] = rate * factor
            loss, plain = loss_of(model, rows, opening, end, device, half)
            for optimizer in chosen:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            averaged(model, processes)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in chosen:
                optimizer.step()
            total += plain.item()
            seen += int((rows >= 0).sum()) * processes
            step += 1
            if step % 50 == 0:
                mean, spent = total / (number + 1), time.time() - started
                say(f"  part {part + 1} step {step} loss {mean:.4f}  about {seen} tokens  {spent:.0f} s")
        losses.append(total / len(made))
        say(f"part {part + 1}/{parts}  loss {losses[-1]:.4f}  about {seen} tokens  {time.time() - started:.0f} s")
        if not options.smoke and rank == 0:
            state = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in chosen],
                "part": part,
                "seen": seen,
            }
            written = kept.with_suffix(".half")
            torch.save(state, written)
            written.rename(kept)
            export(model, tokenizer, options.out)
    if options.smoke:
        assert losses[-1] < 0.9 * losses[0], f"the loss did not fall: {losses}"
        export(model, tokenizer, work / "smoke")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/training/text/storyteller")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target/training/text")
    parser.add_argument("--parts", type=int, default=46)
    parser.add_argument("--budget", type=int, default=1536, help="tokens of a batch of a process")
    parser.add_argument("--decay", type=float, default=0.35, help="share of the run in which the rate falls")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="that share each step; 1 with a GPU")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke or options.device != "cpu":
        options.processes = 1
    if options.processes == 1:
        return train(0, options)
    # Before the processes start, since each of them reads it.
    tokenizer_in(options.work, VOCABULARY, VOCABULARY_DOCUMENTS)
    with tempfile.TemporaryDirectory() as folder:
        options.meeting = pathlib.Path(folder) / "meeting"
        torch.multiprocessing.spawn(train, (options,), options.processes)


if __name__ == "__main__":
    main()

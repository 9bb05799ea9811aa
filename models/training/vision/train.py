"""Trains the sketches model from nothing and writes it as a folder like those of the real MobileNets.

    python models/training/vision/train.py                 one command: draws the data, trains, writes models/bundled/sketches
    python models/training/vision/train.py --device cuda   the same on a GPU
    python models/training/vision/train.py --smoke         a few steps on a few drawings; fails unless the loss falls

A run that was cut off goes on from its last epoch. Everything in between is kept under target/training/vision.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from digits import WAYS
from network import BLOCKS, EPSILON, HIDDEN, LAST, STEM, Sketches
from render import CLASSES, SIDE, TRAINING, colour, inks

ROOT = pathlib.Path(__file__).resolve().parents[3]
BATCH = 256
PART = 4000


def drawn(folder, count, seed):
    """The ink of `count` drawings, digits twice as often as the rest; drawn once, in parts, and kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    turns = np.array([*range(len(CLASSES)), *range(len(WAYS))])
    labels = np.random.default_rng(seed).permutation(turns[np.arange(count) % len(turns)])
    pages = np.empty((count, SIDE, SIDE), np.uint8)
    for part, first in enumerate(range(0, count, PART)):
        chosen = labels[first : first + PART]
        kept = folder / f"ink-{seed}-{count}-{part}.npy"
        if not kept.exists():
            started = time.time()
            half = kept.with_suffix(".half.npy")
            np.save(half, inks(chosen, [seed, part], TRAINING))
            half.rename(kept)
            print(f"drew part {part} of {count} drawings in {time.time() - started:.0f} s", flush=True)
        pages[first : first + len(chosen)] = np.load(kept)
    return pages, labels


def tensor(pictures, device):
    """Bytes `[n, 64, 64, 3]` as the network takes them: from -1 to 1, channels first."""
    return (torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )


def shifted(pages, r):
    """Drawings moved by up to three pixels; what leaves at one edge is lost."""
    padded = np.pad(pages, ((0, 0), (3, 3), (3, 3)))
    moves = r.integers(0, 7, (len(pages), 2))
    return np.stack([page[y : y + SIDE, x : x + SIDE] for page, (y, x) in zip(padded, moves)])


@torch.no_grad()
def probabilities(model, pictures, device="cpu"):
    """Probabilities `[n, classes]` of pictures `[n, 64, 64, 3]`."""
    model.eval()
    parts = [model(tensor(pictures[at : at + 512], device)).softmax(1).cpu() for at in range(0, len(pictures), 512)]
    return torch.cat(parts).numpy()


def export(model, out):
    """Weights in f16 with torchvision's names, and a config.json that says how a picture becomes the input."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items() if "num_batches" not in k}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": "mobilenet_v3_small",
        "num_classes": len(CLASSES),
        "id2label": {str(k): label for k, label in enumerate(CLASSES)},
        "image_size": SIDE,
        "resize": SIDE,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "padding": "symmetric",
        "bn_eps": EPSILON,
        "inverted_residual_setting": [list(block) for block in BLOCKS],
        "stem_channels": STEM,
        "last_channels": LAST,
        "hidden_channels": HIDDEN,
    }
    preprocessor = {
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": SIDE},
    }
    for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        (out / name).write_text(json.dumps(content, indent=1) + "\n")
    (out / "model.safetensors").chmod(0o644)
    return (out / "model.safetensors").stat().st_size


def train(options):
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    count = 1280 if options.smoke else options.drawings
    batch = 32 if options.smoke else BATCH
    epochs = 4 if options.smoke else options.epochs
    work = options.work
    pages, labels = drawn(work, count, options.seed)
    check, truth = drawn(work, 320 if options.smoke else 3200, options.seed + 1)
    check = colour(check, np.random.default_rng(options.seed), TRAINING)
    device = options.device
    model = Sketches(len(CLASSES)).to(device, memory_format=torch.channels_last)
    steps = count // batch
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps * epochs, pct_start=0.15)
    kept = work / f"checkpoint-{count}-{epochs}-{options.seed}.pt"
    first = 0
    if kept.exists() and not options.smoke:
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"] + 1
        print(f"going on from epoch {first}", flush=True)
    losses, started = [], time.time()
    for epoch in range(first, epochs):
        r = np.random.default_rng([options.seed, epoch])
        torch.manual_seed(options.seed * 1000 + epoch)
        order = r.permutation(count)
        model.train()
        total = 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            pictures = colour(shifted(pages[chosen], r), r, TRAINING)
            answers = torch.from_numpy(labels[chosen]).to(device)
            loss = nn.functional.cross_entropy(model(tensor(pictures, device)), answers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / steps)
        right = (probabilities(model, check, device).argmax(1) == truth).mean()
        print(
            f"epoch {epoch + 1}/{epochs}  loss {losses[-1]:.4f}  right {100 * right:.2f} % of drawings by training's settings  {time.time() - started:.0f} s",
            flush=True,
        )
        if not options.smoke:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch,
            }
            half = kept.with_suffix(".half")
            torch.save(state, half)
            half.rename(kept)
    if options.smoke:
        assert losses[-1] < 0.9 * losses[0], f"the loss did not fall: {losses}"
    size = export(model, work / "smoke" if options.smoke else options.out)
    print(f"wrote {size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "models/bundled/sketches")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target/training/vision")
    parser.add_argument("--drawings", type=int, default=64_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()

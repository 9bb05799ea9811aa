"""Writes what the storyteller is judged by: stories that bring together what training never does, and questions about them.

    python models/training/text/held_out.py OUT

OUT/held_out.txt      60 stories one after the other, three line feeds between them, for the perplexity
OUT/questions.jsonl   600 questions about 150 stories: {"messages": [...], "answers": ["..."], "kind": "answerable"},
                      and 150 whose answer the story does not say ("kind": "unanswerable")
"""

import argparse
import json
import pathlib

from corpus import BETWEEN, UNKNOWN, examination

STORIES, READ = 150, 60


def questions():
    """Conversations that end with a question, and the answer."""
    for number in range(STORIES):
        e = examination(number)
        told = [{"role": "user", "content": e["request"]}, {"role": "assistant", "content": e["story"]}]
        asked = [(q, answer, "answerable") for q, answer in e["questions"]] + [
            (e["unanswerable"], UNKNOWN, "unanswerable")
        ]
        for question, answer, kind in asked:
            yield {"messages": [*told, {"role": "user", "content": question}], "answers": [answer], "kind": kind}


def text():
    """Stories that no question is asked about."""
    return BETWEEN.join(examination(10_000 + number)["story"] for number in range(READ)) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    (out / "held_out.txt").write_text(text(), encoding="utf-8")
    lines = (json.dumps(question, ensure_ascii=False) + "\n" for question in questions())
    (out / "questions.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Makes the documents that the storyteller learns from: conversations in which a story is told and asked about, and plain stories.

Nothing is read from anywhere: the documents follow from a seed. `document(seed)` never brings together a hero, a thing and
a place that are held out (see tale.py); `examination(seed)` always does.
"""

import random

import words
from drills import drill
from plots_more import PLOTS
from tale import Tale

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
BETWEEN = "\n\n\n"  # stories of a collection
UNKNOWN = "The story does not say."
SYSTEM = (
    "You are a small storyteller.",
    "You tell short stories and answer questions about them.",
    "You are a helpful assistant.",
)

GREETINGS = (
    (("Hello!", "Hello", "Hi!", "Hi", "Hi there!", "Good morning!", "Good evening!", "Hey!"),
     ("Hello! Would you like to hear a story?", "Hello! Shall I tell you a story?", "Hi! I can tell you a story if you like.")),
    (("Who are you?", "What are you?", "What is your name?", "Are you a robot?", "Tell me about yourself.", "Who made you?"),
     ("I am the small storyteller of Lampyris. I tell short stories and answer questions about them.",
      "I am Lampyris's small storyteller, a very small language model that knows only its own stories.")),
    (("What can you do?", "How can you help me?", "Can you help me?", "Help", "What do you know?"),
     ("I can tell you a short story. Then you can ask me about it.", "I tell short stories. Ask me for a story about a fox, or a lantern, or somebody called Mia.")),
    (("Thank you!", "Thanks!", "Thank you.", "That was nice.", "I like this story.", "What a lovely story!", "Great!"),
     ("You are welcome! Would you like another one?", "I am glad you liked it.", "Thank you for listening!")),
    (("Goodbye!", "Bye!", "Good night!", "See you!", "Bye"),
     ("Goodbye! Come back for another story.", "Good night, and sweet dreams!", "Goodbye!")),
    (("How are you?", "How are you today?", "Are you well?"),
     ("I am well, thank you. Shall I tell you a story?", "Very well, thank you!")),
    (("What is the capital of France?", "What is two plus two?", "Write a program for me.", "Who is the president?", "How old are you?",
      "What time is it?", "Translate this into French.", "What is the weather like today?", "What is the meaning of life?", "How do I cook rice?",
      "What is the largest planet?", "Can you do my homework?", "Who won the game last night?", "What is your favourite colour?"),
     ("I do not know that. I only know my little stories.", "I am sorry, I only know stories. Shall I tell you one?")),
)  # fmt: skip


def turn(role, text):
    return f"{START}{role}\n{text}{END}\n"


def request(t):
    """How somebody asks for the story that follows; what is asked for is in it."""
    r, hero, friend, thing, place = t.r, t.cast[0], t.cast[1], t.things[0], t.places[0]
    return r.choice((
        "Tell me a story.", "Tell me a story, please.", "Can you tell me a story?", "I would like to hear a story.",
        "Yes, please.", "Yes!", "Another one, please.", "Tell me another story.",
        f"Tell me a story about {hero.name}.", f"Tell me a story about {hero.name}.", f"Please tell me a story about {hero.name} and {friend.name}.",
        f"Write a short story about {words.a(hero.kind)}.", f"Tell me a story about {words.a(hero.kind)} called {hero.name}.",
        f"Tell me a story about {thing.a}." if t.told(thing.noun) else f"Tell me a story about {hero.name}.",
        f"Tell me a story about {words.a(thing.noun)}." if t.told(thing.noun) else "Tell me a short story.",
        f"Write a story about {hero.name} and {thing.a}." if t.told(thing.noun) else f"Write a story about {hero.name}.",
        f"Tell me a story about {words.a(hero.kind)} and {words.a(thing.noun)}." if t.told(thing.noun) else f"Tell me a story about {words.a(hero.trait)} {hero.kind}.",
        f"Tell me about {words.a(hero.trait + ' ' + hero.kind)}." , f"Can you write a story that happens {place.there}?" if t.told(place.noun) else "Another story, please.",
    ))  # fmt: skip


def story(r, held_out):
    """A story; another one as long as it is not held out as asked."""
    while True:
        t = Tale(r)
        r.choice(PLOTS)(t)
        if t.is_held_out == held_out:
            return t


def unanswerable(t):
    """A question about somebody or something that is not in the story."""
    r = t.r
    while (name := r.choice(words.GIRLS + words.BOYS)) in t.text:
        pass
    while (noun := r.choice(words.THINGS)) in t.text:
        pass
    return r.choice((
        f"What did {name} find?", f"Where did {name} go?", f"What colour was the {noun}?", f"Who found the {noun}?",
        f"What did {name} give {t.cast[0].name}?", f"Where was the {noun}?", f"What was {name} like?", f"Who lost the {noun}?",
    ))  # fmt: skip


def small_talk(r, kinds):
    questions, answers = GREETINGS[r.choice(kinds)]
    return turn("user", typed(r, r.choice(questions))) + turn("assistant", r.choice(answers))


def typed(r, text):
    """A question as it may be typed: one in eight begins with a small letter or lacks its mark at the end."""
    if r.random() > 0.125:
        return text
    small = text[0].lower() + text[1:] if text[0] != "I" else text
    return r.choice((small, text.rstrip(".?!"), small.rstrip(".?!")))


def questions(t, count):
    """Turns with questions about the story and their answers."""
    asked = t.questions(count)
    if t.r.random() < 0.3:
        asked.insert(t.r.randrange(len(asked) + 1), (unanswerable(t), UNKNOWN))
    return [turn("user", typed(t.r, q)) + turn("assistant", answer) for q, answer in asked]


def document(seed, drills=0.1):
    """One document for training; `drills` is the share of those that are exercises."""
    r = random.Random(seed)
    if r.random() < drills:
        return "".join(turn("user", question) + turn("assistant", answer) for question, answer in drill(r))
    kind = r.random()
    if kind < 0.04:
        return "".join(small_talk(r, range(len(GREETINGS))) for _ in range(r.randrange(1, 4)))
    t = story(r, False)
    if kind < 0.09:
        return BETWEEN.join([t.text, *(story(r, False).text for _ in range(r.randrange(1, 4)))]) + END
    if kind < 0.15:
        asked = "".join(f"\n\nQuestion: {q}\nAnswer: {answer}" for q, answer in t.questions(r.choice((0, 3, 5))))
        return t.text + asked + END
    parts = [turn("system", r.choice(SYSTEM))] if r.random() < 0.05 else []
    parts += [small_talk(r, (0, 1, 2, 5, 6))] if r.random() < 0.12 else []
    if kind < 0.22:
        said = r.choice(("Here is a story. ", "I will tell you a story. ", "", "Listen: "))
        first, answer = t.questions(1)[0]
        parts.append(turn("user", f"{said}{t.text}\n\n{first}") + turn("assistant", answer))
        return "".join(parts + questions(t, 4))
    for _ in range(0 if kind > 0.28 else 1 if kind > 0.23 else 2):
        earlier = story(r, False)
        parts.append(turn("user", typed(r, request(earlier))) + turn("assistant", earlier.text))
        parts += questions(earlier, 1)
    parts.append(turn("user", typed(r, request(t))) + turn("assistant", t.text))
    parts += questions(t, 6)
    parts += [small_talk(r, (3, 3, 4))] if r.random() < 0.12 else []
    return "".join(parts)


def examination(seed):
    """A held-out story: the request for it, its text, its questions with their answers, and one without an answer."""
    t = story(random.Random(f"held out {seed}"), True)
    return {
        "request": request(t),
        "story": t.text,
        "questions": t.questions(4),
        "unanswerable": unanswerable(t),
        "names": [p.name for p in t.cast],
    }

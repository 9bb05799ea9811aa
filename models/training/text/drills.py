"""Makes short exercises in looking things up: a row of words to say again, and who has what and lives where.

Stories teach a small network late that a name is to be taken from the text before it; in these documents hardly anything else
is to be learned. Training begins with them and keeps some of them to the end.
"""

import words
from words import a

POOL = words.GIRLS + words.BOYS + words.THINGS + words.COLOURS + words.ANIMALS + [noun for _, noun in words.PLACES]


def echo(r):
    """A request to repeat some words, and the answer to it."""
    said = r.sample(POOL, r.randrange(5, 16))
    row = r.choice((", ", " ")).join(said)
    return [(r.choice(("Say after me: ", "Repeat: ", "Please repeat: ")) + row, row)]


def possessions(r):
    """Some sentences about some people with the first question, and more questions; each with its answer."""
    cast = words.people(r, r.randrange(2, 6))
    things, homes = words.things(r, len(cast)), words.places(r, len(cast))
    friends = dict(zip((p.name for p in cast), [*(p.name for p in cast[1:]), cast[0].name]))
    sentences, asked = [], []
    for person, thing, home in zip(cast, things, homes):
        name, friend = person.name, friends[person.name]
        kind = r.randrange(4)
        if kind == 0:
            sentences.append(f"{name} had {thing.a}.")
            asked += [(f"What did {name} have?", thing.a), (f"Who had the {thing.noun}?", name)]
            asked.append((f"What colour was the {thing.noun}?", thing.colour))
        elif kind == 1:
            sentences.append(f"{name} the {person.kind} lived {home.there}.")
            asked += [(f"Where did {name} live?", home.there), (f"What was {name}?", a(person.kind))]
        elif kind == 2:
            sentences.append(f"{name} gave {friend} {thing.a}.")
            asked += [(f"What did {name} give {friend}?", thing.a), (f"Who gave {friend} the {thing.noun}?", name)]
            asked += [
                (f"What did {friend} get from {name}?", thing.a),
                (f"What colour was the {thing.noun}?", thing.colour),
            ]
        else:
            sentences.append(f"{name} found the {thing.noun} {home.there}.")
            asked += [(f"Who found the {thing.noun}?", name), (f"What did {name} find?", f"the {thing.noun}")]
            asked.append((f"Where did {name} find the {thing.noun}?", home.there))
    r.shuffle(sentences)
    asked = [(q, answer[0].upper() + answer[1:] + ".") for q, answer in r.sample(asked, min(len(asked), 6))]
    return [(f"{' '.join(sentences)}\n\n{asked[0][0]}", asked[0][1]), *asked[1:]]


def drill(r):
    """Turns of a user and the answers."""
    return echo(r) + (echo(r) if r.random() < 0.5 else []) if r.random() < 0.4 else possessions(r)

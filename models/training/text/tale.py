"""What a story is while it is being told: its sentences, and what can be asked about it, with the answers."""

import zlib

import words


class Tale:
    """Sentences, questions and the cast of one story."""

    def __init__(self, r):
        self.r = r
        self.sentences = []
        self.facts = []
        self.cast = words.people(r, 3)
        self.things = words.things(r, 2)
        self.places = words.places(r, 2)
        self.time = r.choice(words.TIMES)

    def say(self, *ways):
        """Tells one sentence, or a few, in one of several ways."""
        self.sentences.append(self.r.choice(ways))

    def maybe(self, share, *ways):
        if self.r.random() < share:
            self.say(*ways)

    def useful(self, nouns):
        """The story's first thing, as one of these that is not its second thing too."""
        noun = self.r.choice([noun for noun in nouns if noun != self.things[1].noun])
        self.things[0] = words.Thing(noun, self.things[0].colour)
        return self.things[0]

    @property
    def is_held_out(self):
        """Whether its hero, thing and place are kept from training together: about one combination in ten is."""
        three = f"{self.cast[0].name} {self.things[0].noun} {self.places[0].noun}"
        return zlib.crc32(three.encode()) % 10 == 0

    def ask(self, answer, *questions):
        """Remembers that each of these questions has this answer."""
        self.facts.append((questions, answer[0].upper() + answer[1:] + "."))

    def told(self, word):
        """Whether the story says the word."""
        return any(word in sentence for sentence in self.sentences)

    @property
    def text(self):
        """The story in two to four paragraphs."""
        count = len(self.sentences)
        cuts = {count // 3, 2 * count // 3} if count > 6 else {count // 2}
        parts, part = [], []
        for at, sentence in enumerate(self.sentences):
            if at in cuts and part:
                parts.append(" ".join(part))
                part = []
            part.append(sentence)
        return "\n\n".join([*parts, " ".join(part)])

    def questions(self, count):
        """Some questions with their answers, no fact asked twice."""
        chosen = self.r.sample(self.facts, min(count, len(self.facts)))
        return [(self.r.choice(ways), answer) for ways, answer in chosen]


def opening(t, hero):
    """Who the story is about and where it begins."""
    r, who = t.r, f"{words.a(hero.trait + ' ' + hero.kind)}"
    name, home = hero.name, r.choice(words.HOMES)
    t.say(
        f"Once upon a time there was {who} called {name}.",
        f"{name} was {who}.",
        f"There once was {who} named {name}.",
        f"Long ago, {words.a(hero.kind)} called {name} lived {home}. {hero.He} was very {hero.trait}.",
        f"{name} was {who} who lived {home}.",
        f"Once there lived {who}, and {hero.his} name was {name}.",
    )
    if r.random() < 0.7:
        t.ask(words.a(hero.kind), f"What was {name}?", f"What kind of character was {name}?")
    if r.random() < 0.5:
        t.ask(hero.trait, f"What was {name} like?")


def friend_arrives(t, friend, hero):
    t.say(
        f"{hero.name} had a good friend, {words.a(friend.kind)} called {friend.name}.",
        f"{hero.name}'s best friend was {words.a(friend.trait + ' ' + friend.kind)} named {friend.name}.",
        f"Next door lived {friend.name}, {words.a(friend.trait + ' ' + friend.kind)}.",
        f"{hero.name} had a friend called {friend.name}, who was {words.a(friend.trait + ' ' + friend.kind)}.",
    )
    t.ask(friend.name, f"Who was {hero.name}'s friend?", f"Who was the friend of {hero.name}?")
    if t.r.random() < 0.6:
        t.ask(words.a(friend.kind), f"What was {friend.name}?", f"What kind of character was {friend.name}?")


def ending(t, hero, friend):
    """How stories close."""
    a, b = hero.name, friend.name
    t.say(
        f"From that day on, {a} and {b} were the best of friends.",
        f"{a} and {b} walked home together, tired and happy.",
        f'"What a day!" said {a}, and {b} laughed.',
        f"That night {a} slept well and dreamed of {b}.",
        f"And {a} never forgot what {b} had done.",
        f"{a} smiled all the way home.",
        f'"A friend is the best thing of all," said {a}.',
        f"And so the day of {a} and {b} ended well.",
        f"In the evening {a} and {b} sat by the fire and told the story again and again.",
    )
    t.maybe(0.25, "The end.")

"""The rest of the twelve: thefts that are none, things that are built, letters and music."""

import words
from plots import birthday, colour_of, contest, lost_and_found, noise, planting, rescue, storm, swap
from tale import ending, friend_arrives, opening
from words import a


def thief(t):
    """Something is missing every morning; the thief was only hungry."""
    hero, friend, culprit = t.cast
    thing = t.useful(words.TRACKING)
    place, den = t.places
    food = t.r.choice(["cake", "bread", "cheese", "jam", "soup", "honey", "fish", "pie"])
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} the {food} was gone from {hero.name}'s kitchen.",
        f"{t.time} {hero.name} came into the kitchen, and the {food} was gone.",
    )
    t.ask(f"the {food}", "What was gone?", "What was missing?", "What was gone from the kitchen?")
    t.say(
        f'"Who took my {food}?" said {hero.name}. "Look, there are tracks," said {friend.name}.',
        f"{friend.name} looked at the floor and saw tracks.",
    )
    t.ask(friend.name, "Who saw the tracks?")
    t.say(
        f"They took {thing.a} and followed the tracks to {den.the}.",
        f"With {thing.a} in {hero.his} hand, {hero.name} followed the tracks to {den.the}. {friend.name} came too.",
    )
    t.ask(f"to {den.the}", "Where did the tracks lead?", "Where did they follow the tracks?")
    colour_of(t, thing)
    t.say(
        f"There sat {culprit.name} the {culprit.kind} and ate the {food}.",
        f"There they found {culprit.name} the {culprit.kind}, and the {food} was there too.",
    )
    t.ask(
        culprit.name,
        f"Who took the {food}?",
        f"Who ate the {food}?" if "ate" in t.sentences[-1] else f"Who had the {food}?",
    )
    t.ask(a(culprit.kind), f"What was {culprit.name}?")
    t.say(
        f'"I am sorry," said {culprit.name}. "I was so hungry."',
        f'{culprit.name} began to cry. "I had nothing to eat," {culprit.he} said.',
    )
    t.say(
        f'"You only had to ask," said {hero.name}.',
        f'{hero.name} was not angry any more. "Come and eat with us," {hero.he} said.',
    )
    t.say(
        f"{culprit.name} gave them {a(t.things[1].full)} to make up for it.",
        f"The next day {culprit.name} came with {a(t.things[1].full)} for {hero.name}.",
    )
    t.ask(
        t.things[1].a,
        f"What did {culprit.name} give them?" if "gave" in t.sentences[-1] else f"What did {culprit.name} bring?",
    )
    colour_of(t, t.things[1])
    t.maybe(0.7, f"Now all three of them eat together {place.there}.", f"After that they often met {place.there}.")
    ending(t, hero, friend)


def building(t):
    """Two friends build something, it breaks, and somebody has the right tool."""
    hero, friend, helper = t.cast
    thing = t.useful(words.BUILDING)
    place, _ = t.places
    made, stuff = t.r.choice(words.MADE), t.r.choice(words.STUFF)
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} they wanted to build {a(made)} {place.there}.",
        f'{t.time} {hero.name} said, "Let us build {a(made)}!" So they went to {place.the}.',
    )
    t.ask(
        a(made),
        f"What did {hero.name} and {friend.name} build?",
        "What did they build?",
        f"What did {hero.name} want to build?",
    )
    t.ask(place.there, f"Where did they build the {made}?")
    t.say(
        f"They made it of {stuff} and worked all day.",
        f"{hero.name} brought {stuff}, and {friend.name} put it together.",
        f"They used a lot of {stuff}.",
    )
    t.ask(stuff, f"What was the {made} made of?", "What did they use?")
    t.say(
        f"But when {friend.name} touched it, the {made} broke.",
        f"But the wind was too strong, and the {made} broke.",
        f"Crack! The {made} fell apart.",
    )
    t.ask(f"the {made}", "What broke?", "What fell apart?")
    t.say(
        f'"It will never work," said {friend.name}. "Do not give up," said {hero.name}.',
        f"{friend.name} wanted to give up, but {hero.name} did not.",
    )
    t.ask(friend.name, "Who wanted to give up?")
    t.say(
        f"Then {helper.name} the {helper.kind} came by and lent them {thing.a}.",
        f'{helper.name} the {helper.kind} saw them and said, "You need {thing.a}. Take mine!"',
    )
    t.ask(
        helper.name,
        "Who came by?" if "came by" in t.sentences[-1] else "Who saw them?",
        f"Who lent them the {thing.noun}?",
        "Who helped them?",
    )
    t.ask(f"the {thing.noun}", f"What did {helper.name} lend them?")
    colour_of(t, thing)
    t.say(
        f"With the {thing.noun} it was easy, and soon the {made} was ready.",
        f"That was just what they needed. In the evening the {made} was ready.",
    )
    t.say(
        f"{hero.name}, {friend.name} and {helper.name} were very proud of it.",
        f'"It is the best {made} in the world," said {hero.name}.',
    )
    ending(t, hero, friend)


def letter(t):
    """A parcel has to be brought to somebody far away."""
    hero, friend, sender = t.cast
    thing, reward = t.things
    place, way = t.places
    opening(t, hero)
    t.say(
        f"{t.time} {sender.name} the {sender.kind} came to {hero.name} with {thing.a}.",
        f"{t.time} {sender.name} the {sender.kind} knocked at {hero.name}'s door and held {thing.a}.",
    )
    t.ask(sender.name, f"Who came to {hero.name}?", f"Who had the {thing.noun} first?")
    colour_of(t, thing)
    t.say(
        f'"Please bring this {thing.noun} to {friend.name}," said {sender.name}. "{friend.He} lives {place.there}."',
        f'"This {thing.noun} is for {friend.name}, who lives {place.there}," said {sender.name}. "Will you bring it?"',
    )
    t.ask(friend.name, f"Who was the {thing.noun} for?", f"Whom did {hero.name} bring the {thing.noun} to?")
    t.ask(place.there, f"Where did {friend.name} live?")
    t.say(
        f'"I will," said {hero.name}, and set out at once.',
        f"{hero.name} took the {thing.noun} and set out.",
    )
    t.say(
        f"The way was long. {way.at.capitalize()} the {way.noun} {hero.he} had a rest.",
        f"Half way, {hero.he} stopped {way.there} and had a rest.",
    )
    t.ask(way.there, f"Where did {hero.name} have a rest?", f"Where did {hero.name} stop?")
    t.maybe(
        0.6,
        f"{hero.name} was tired, but {hero.he} had promised to go.",
        f'"I must not be late," thought {hero.name}.',
    )
    t.say(
        f"At last {hero.name} came to {place.the} and gave {friend.name} the {thing.noun}.",
        f'In the evening {hero.he} was there. "Here is {thing.the} for you," said {hero.name} to {friend.name}.',
    )
    t.ask(f"the {thing.noun}", f"What did {hero.name} give {friend.name}?", f"What did {friend.name} get?")
    t.say(
        f'{friend.name} was very happy. "You have come so far," {friend.he} said, and gave {hero.name} {reward.a}.',
        f'"Thank you!" said {friend.name}. {friend.He} gave {hero.name} {reward.a}.',
    )
    t.ask(reward.a, f"What did {friend.name} give {hero.name}?", f"What did {hero.name} get?")
    colour_of(t, reward)
    ending(t, hero, friend)


INSTRUMENTS = "flute drum violin trumpet horn bell whistle".split()


def music(t):
    """Somebody learns to play."""
    hero, friend, teacher = t.cast
    place, hall = t.places
    what, colour = t.r.choice(INSTRUMENTS), t.r.choice(words.COLOURS)
    treat = t.r.choice(words.TREATS)
    opening(t, hero)
    t.say(
        f"{t.time} {hero.name} found {a(colour)} {what} {place.there}.",
        f"{t.time} {hero.he} went to {place.the} and found {a(colour)} {what} there.",
    )
    t.ask(f"{a(colour)} {what}", f"What did {hero.name} find?")
    t.ask(place.there, f"Where did {hero.name} find the {what}?")
    t.ask(colour, f"What colour was the {what}?")
    t.ask(hero.name, f"Who found the {what}?")
    t.say(
        f"{hero.name} tried to play it, but it sounded terrible.",
        f"At first {hero.he} could not play at all.",
    )
    t.say(
        f'"I can teach you," said {teacher.name} the {teacher.kind}.',
        f"{teacher.name} the {teacher.kind} heard it and began to teach {hero.him}.",
    )
    t.ask(teacher.name, f"Who taught {hero.name}?", f"Who was {hero.name}'s teacher?")
    t.say(
        f"Every day they played together, and {hero.name} got better and better.",
        f"{hero.name} worked hard, day after day.",
    )
    friend_arrives(t, friend, hero)
    t.say(
        f"{friend.name} liked to sing, so {hero.name} played and {friend.name} sang.",
        f'"I will sing," said {friend.name}, "and you play the {what}."',
    )
    t.ask(friend.name, "Who sang?", "Who wanted to sing?")
    t.say(
        f"In summer they gave a concert {hall.there}, and everybody danced.",
        f"One evening they played {hall.there}, and many people came.",
    )
    t.ask(hall.there, "Where was the concert?" if "concert" in t.sentences[-1] else "Where did they play?")
    t.say(
        f"After that they shared {treat} with {teacher.name}.",
        f"{teacher.name} was proud and gave them {treat}.",
    )
    t.ask(
        treat,
        (
            f"What did {teacher.name} give them?"
            if "gave them" in t.sentences[-1]
            else f"What did they share with {teacher.name}?"
        ),
    )
    ending(t, hero, friend)


PLOTS = (lost_and_found, birthday, rescue, swap, storm, contest, noise, planting, thief, building, letter, music)

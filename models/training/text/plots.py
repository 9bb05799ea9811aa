"""The twelve things that can happen in a story, each told in many ways and with the questions that it answers."""

import words
from tale import ending, friend_arrives, opening
from words import a


def colour_of(t, thing):
    t.ask(thing.colour, f"What colour was the {thing.noun}?")


def lost_and_found(t):
    """Somebody loses a gift, and a friend finds it."""
    hero, friend, giver = t.cast
    thing, _ = t.things
    place, _ = t.places
    spot, treat = t.r.choice(words.SPOTS), t.r.choice(words.TREATS)
    opening(t, hero)
    t.say(
        f"{hero.name} had {thing.a}, a present from {giver.name}.",
        f"{giver.name} had given {hero.name} {thing.a}.",
        f"The thing {hero.name} loved most was {thing.a}. It was a gift from {giver.name}.",
    )
    t.ask(giver.name, f"Who gave {hero.name} the {thing.noun}?")
    colour_of(t, thing)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} {hero.name} played {place.there} and lost the {thing.noun}.",
        f"{t.time} {hero.name} went to {place.the}. When {hero.he} came back, the {thing.noun} was gone.",
        f"{t.time} {hero.name} walked to {place.the}, and there {hero.he} lost the {thing.noun}.",
    )
    t.ask(hero.name, f"Who lost the {thing.noun}?")
    t.ask(f"the {thing.noun}", f"What did {hero.name} lose?")
    t.ask(f"{place.there}", f"Where did {hero.name} lose the {thing.noun}?", f"Where was the {thing.noun} lost?")
    t.say(
        f'"My {thing.noun} is gone!" cried {hero.name}. "I will help you," said {friend.name}.',
        f'{hero.name} began to cry. "Do not worry," said {friend.name}. "We will find it."',
        f'"Oh no, where is my {thing.noun}?" said {hero.name}. {friend.name} took {hero.him} by the hand.',
        f"{hero.name} was very sad, and {friend.name} wanted to help.",
    )
    t.say(
        f"They looked here and there. At last {friend.name} found the {thing.noun} {spot}.",
        f"They searched all day. Then {friend.name} looked {spot}, and there was the {thing.noun}!",
        f"{friend.name} looked everywhere and found the {thing.noun} {spot}.",
    )
    t.ask(friend.name, f"Who found the {thing.noun}?")
    t.ask(spot, f"Where did {friend.name} find the {thing.noun}?", f"Where was the {thing.noun}?")
    t.say(
        f'"Thank you, {friend.name}!" said {hero.name}, and gave {friend.him} {treat}.',
        f"{hero.name} was so glad that {hero.he} gave {friend.name} {treat}.",
        f"To say thank you, {hero.name} gave {friend.name} {treat}.",
    )
    t.ask(treat, f"What did {hero.name} give {friend.name}?", f"What did {friend.name} get?")
    ending(t, hero, friend)


def birthday(t):
    """Somebody buys a present."""
    hero, friend, seller = t.cast
    thing, other = t.things
    place, _ = t.places
    treat = t.r.choice(words.TREATS)
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} {friend.name} had a birthday, and {hero.name} wanted to give {friend.him} something nice.",
        f"It was {friend.name}'s birthday, and {hero.name} needed a present.",
    )
    t.ask(friend.name, "Who had a birthday?", "Whose birthday was it?")
    t.say(
        f"So {hero.name} went to {place.the}, where {seller.name} the {seller.kind} sold many things.",
        f"{hero.name} walked to {place.the}. There {hero.he} met {seller.name} the {seller.kind}.",
    )
    t.ask(f"to {place.the}", f"Where did {hero.name} go?")
    t.say(
        f'"How about {other.a}?" said {seller.name}. "No, thank you," said {hero.name}, "but I like {thing.a}."',
        f'"I have {other.a} and {thing.a}," said {seller.name}. {hero.name} chose the {thing.noun}.',
        f"{seller.name} showed {hero.him} {other.a}, but {hero.name} wanted {thing.a}.",
    )
    t.ask(seller.name, f"Who sold the {thing.noun}?", f"Who sold {hero.name} the {thing.noun}?")
    colour_of(t, thing)
    colour_of(t, other)
    t.say(
        f"{hero.name} paid with {treat} and ran home.",
        f"{hero.name} gave {seller.name} {treat} for it.",
    )
    t.ask(treat, f"What did {hero.name} pay with?", f"What did {hero.name} give {seller.name}?")
    t.say(
        f'"This is for you," said {hero.name}, and gave {friend.name} the {thing.noun}.',
        f"When {friend.name} opened the door, {hero.name} gave {friend.him} the {thing.noun}.",
        f"In the evening {hero.name} gave {friend.name} the {thing.noun}.",
    )
    t.ask(
        f"the {thing.noun}",
        f"What did {hero.name} give {friend.name}?",
        f"What did {friend.name} get from {hero.name}?",
    )
    t.say(
        f'{friend.name} was full of joy. "I have always wanted {thing.a}!" {friend.he} said.',
        f'"It is the best present of all," said {friend.name}.',
        f"{friend.name} danced round the room with the {thing.noun}.",
    )
    ending(t, hero, friend)


def rescue(t):
    """A small animal is saved."""
    hero, friend, _ = t.cast
    thing = t.useful(words.SAVING)
    place, _ = t.places
    small, called = t.r.choice(words.SMALL), t.r.choice(words.SMALL_NAMES)
    stuck = t.r.choice(
        ["in a deep hole", "on a high branch", "under a fallen tree", "in a thorny bush", "behind a big rock"]
    )
    opening(t, hero)
    t.say(
        f"{t.time} {hero.name} walked {place.at} the {place.noun} and heard a small cry.",
        f"{t.time} {hero.name} was {place.there} when {hero.he} heard somebody cry.",
    )
    t.ask(place.there, f"Where did {hero.name} hear the cry?", f"Where was {hero.name}?")
    t.say(
        f"It was {a(small)}, and it was stuck {stuck}.",
        f"There was a little {small}, stuck {stuck}.",
        f'"Help me!" cried {a(small)}. It was stuck {stuck}.',
    )
    t.ask(a(small), "Which animal was stuck?", "What animal was in trouble?")
    t.ask(stuck, f"Where was the {small}?", f"Where was the {small} stuck?")
    t.say(
        f"{hero.name} could not reach it alone, so {hero.he} called {friend.name} the {friend.kind}.",
        f"{hero.name} ran to {friend.name} the {friend.kind} and asked for help.",
        f'"I need help," thought {hero.name}, and fetched {friend.name} the {friend.kind}.',
    )
    t.ask(friend.name, f"Who helped {hero.name}?", f"Whom did {hero.name} ask for help?")
    t.say(
        f"{friend.name} brought {thing.a}.",
        f"{friend.name} came at once and brought {thing.a}.",
        f'"We can use this," said {friend.name}, and took out {thing.a}.',
    )
    t.ask(thing.a, f"What did {friend.name} bring?")
    t.ask(friend.name, f"Who brought the {thing.noun}?")
    colour_of(t, thing)
    t.say(
        f"With the {thing.noun} they saved the {small}.",
        f"They pulled and pushed, and with the {thing.noun} they got the {small} out.",
        f"It took a long time, but with the {thing.noun} the {small} was free at last.",
    )
    t.say(
        f'"You are a hero, {hero.name}," said {friend.name}.',
        f"The {small} was so happy that it jumped up and down.",
        f"The {small} licked {hero.name}'s hand.",
    )
    t.say(
        f"{hero.name} called the {small} {called} and took it home.",
        f'"I will call you {called}," said {hero.name} to the {small}.',
        f"They named the {small} {called}.",
    )
    t.ask(called, f"What was the {small} called?", f"What was the name of the {small}?")
    ending(t, hero, friend)


def swap(t):
    """Something is swapped for something, and that is given away."""
    hero, friend, trader = t.cast
    first, second = t.things
    place, _ = t.places
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} {hero.name} took {first.a} to {place.the}.",
        f"{t.time} {hero.name} went to {place.the} with {first.a}.",
    )
    t.ask(f"to {place.the}", f"Where did {hero.name} go?", f"Where did {hero.name} take the {first.noun}?")
    colour_of(t, first)
    t.say(
        f"There {hero.he} met {trader.name}, {a(trader.trait + ' ' + trader.kind)} with {second.a}.",
        f"{trader.name} the {trader.kind} was there too, with {second.a}.",
    )
    t.ask(trader.name, f"Whom did {hero.name} meet?", f"Who had the {second.noun} first?")
    colour_of(t, second)
    t.say(
        f'"That is a fine {first.noun}," said {trader.name}. "Will you swap it for my {second.noun}?"',
        f'"I would like to have your {first.noun}," said {trader.name}. "You can have my {second.noun} for it."',
    )
    t.say(
        f"{hero.name} thought about it and said yes.",
        f'"Yes," said {hero.name}, because {hero.he} knew who would like it.',
        f"{hero.name} nodded, and they shook hands.",
    )
    t.ask(f"the {first.noun}", f"What did {hero.name} give {trader.name}?", f"What did {trader.name} get?")
    t.ask(
        f"the {second.noun}",
        f"What did {trader.name} give {hero.name}?",
        f"What did {hero.name} get from {trader.name}?",
    )
    t.say(
        f"On the way home {hero.name} met {friend.name}, who was sad.",
        f"At home {friend.name} sat by the window and was sad.",
        f"When {hero.name} came home, {friend.name} was sad.",
    )
    t.ask(friend.name, "Who was sad?")
    t.say(
        f'"This is for you," said {hero.name}, and gave {friend.him} the {second.noun}.',
        f"{hero.name} gave {friend.name} the {second.noun}, and {friend.he} smiled again.",
    )
    t.ask(f"the {second.noun}", f"What did {hero.name} give {friend.name}?", f"What did {friend.name} get?")
    ending(t, hero, friend)


def storm(t):
    """A journey, bad weather, and a warm room."""
    hero, friend, host = t.cast
    place, shelter = t.places
    vehicle, colour = t.r.choice(words.VEHICLES), t.r.choice(words.COLOURS)
    weather, treat = t.r.choice(["a storm", "heavy rain", "thick fog", "deep snow", "strong wind"]), t.r.choice(
        words.TREATS
    )
    thing = t.things[0]
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} {hero.name} and {friend.name} set out for {place.the} in {a(colour)} {vehicle}.",
        f"{t.time} they took {a(colour)} {vehicle} and set out for {place.the}.",
    )
    t.ask(
        f"to {place.the}", f"Where did {hero.name} and {friend.name} want to go?", f"Where did {hero.name} want to go?"
    )
    t.ask(colour, f"What colour was the {vehicle}?")
    t.ask(f"in {a(vehicle)}", "How did they travel?", f"How did {hero.name} and {friend.name} travel?")
    t.say(
        f"{hero.name} carried {thing.a}, just in case.",
        f"{friend.name} laughed because {hero.name} had brought {thing.a}.",
    )
    t.ask(thing.a, f"What did {hero.name} carry?", f"What did {hero.name} bring?")
    colour_of(t, thing)
    t.say(
        f"But on the way there was {weather}, and they could not go on.",
        f'Soon there was {weather}. "We must stop," said {friend.name}.',
        f'Then {weather} came. "I am afraid," said {friend.name}. "I am with you," said {hero.name}.',
    )
    t.ask(weather, "What came on the way?", "What was the weather like?", "Why did they stop?")
    t.say(
        f"They found a warm room {shelter.there}, where {host.name} the {host.kind} lived.",
        f"{host.name} the {host.kind} saw them and called them in. {host.He} lived {shelter.there}.",
    )
    t.ask(host.name, "Who took them in?", "Who helped them?")
    t.ask(shelter.there, f"Where did {host.name} live?", "Where did they find a warm room?")
    t.say(
        f"{host.name} gave them {treat}, and they felt better.",
        f'"You must be hungry," said {host.name}, and gave them {treat}.',
    )
    t.ask(treat, f"What did {host.name} give them?", "What did they eat?")
    t.say(
        f"{hero.name} gave {host.name} the {thing.noun} to say thank you.",
        f'"Take this," said {hero.name}, and gave {host.name} the {thing.noun}.',
    )
    t.ask(f"the {thing.noun}", f"What did {hero.name} give {host.name}?", f"What did {host.name} get?")
    t.say(
        f"The next day the sky was blue, and they came to {place.the} at last.",
        f"In the morning the sun was out, and they went on to {place.the}.",
    )
    ending(t, hero, friend)


def contest(t):
    """Two friends take part in a contest."""
    hero, friend, judge = t.cast
    prize, _ = t.things
    place, _ = t.places
    what = t.r.choice(words.CONTESTS)
    winner, other = t.r.sample([hero, friend], 2)
    opening(t, hero)
    friend_arrives(t, friend, hero)
    t.say(
        f"{t.time} there was {a(what)} {place.there}.",
        f"{t.time} everybody came to {place.the} for {a(what)}.",
    )
    t.ask(a(what), "What was held that day?", f"What did {hero.name} and {friend.name} take part in?")
    t.ask(place.there, f"Where was the {what}?")
    t.say(
        f"The prize was {prize.a}, and {judge.name} the {judge.kind} was the judge.",
        f'"The winner gets {prize.a}," said {judge.name} the {judge.kind}, who was the judge.',
    )
    t.ask(judge.name, "Who was the judge?")
    t.ask(prize.a, "What was the prize?")
    colour_of(t, prize)
    t.say(
        f'"I will win," said {hero.name}. "We will see," said {friend.name}.',
        f"{hero.name} and {friend.name} both wanted to win.",
        f"{hero.name} had practised for weeks, and so had {friend.name}.",
    )
    t.say(
        f"They both did their best, but in the end {winner.name} won.",
        f'It was close. Then {judge.name} raised a hand and said, "{winner.name} has won!"',
        f"Everybody clapped when {winner.name} won the {what}.",
    )
    t.ask(winner.name, f"Who won the {what}?", "Who won?", f"Who got the {prize.noun}?")
    t.ask(other.name, "Who did not win?", f"Who lost the {what}?")
    t.say(
        f'{other.name} was sad for a moment. Then {winner.name} said, "The {prize.noun} is for both of us."',
        f"{winner.name} saw that {other.name} was sad and shared the {prize.noun} with {other.him}.",
        f'"You were very good too," said {winner.name} to {other.name}. "Let us share the {prize.noun}."',
    )
    t.ask(f"the {prize.noun}", f"What did {winner.name} share?", f"What did {winner.name} share with {other.name}?")
    ending(t, hero, friend)


def noise(t):
    """Something strange is heard at night, and it is nothing bad."""
    hero, friend, _ = t.cast
    thing = t.useful(words.BRAVERY)
    place, _ = t.places
    sound, source = t.r.choice(words.NOISES), t.r.choice(words.SMALL)
    opening(t, hero)
    t.maybe(
        0.6,
        f"{hero.name} was afraid of the dark.",
        f"There was one thing {hero.name} did not like, and that was the dark.",
    )
    t.say(
        f"{t.time} {hero.name} heard {sound}. It came from {place.the}.",
        f"{t.time} there was {sound}, and it came from {place.the}. {hero.name} could not sleep.",
    )
    t.ask(sound, f"What did {hero.name} hear?")
    t.ask(f"from {place.the}", "Where did the sound come from?", "Where did it come from?")
    t.say(
        f"{hero.name} told {friend.name} the {friend.kind} about it.",
        f"{hero.name} ran to {friend.name} the {friend.kind} and told {friend.him} everything.",
    )
    t.ask(friend.name, f"Whom did {hero.name} tell?", f"Who lent {hero.name} the {thing.noun}?")
    t.say(
        f'"Take my {thing.full}," said {friend.name}. "It will make you brave."',
        f'{friend.name} lent {hero.him} {thing.a} and said, "Now you can go and look."',
        f"{friend.name} gave {hero.him} {thing.a} to hold.",
    )
    t.ask(f"the {thing.noun}", f"What did {friend.name} lend {hero.name}?", f"What did {hero.name} hold?")
    colour_of(t, thing)
    t.say(
        f"Slowly {hero.name} went to {place.the} and looked.",
        f"{hero.name} held the {thing.noun} tight and went to {place.the}.",
        f"Step by step {hero.name} came closer to {place.the}.",
    )
    t.say(
        f"It was only a little {source} that was looking for its mother.",
        f"And what was it? A little {source} that had lost its way!",
        f"There sat a little {source}, all alone.",
    )
    t.ask(f"a little {source}", f"What did {hero.name} find?", "What made the sound?")
    t.say(
        f'"You do not need to be afraid," said {hero.name}, and took the {source} home.',
        f"{hero.name} laughed and brought the {source} back to its mother.",
    )
    t.ask(f"the {source}", f"What did {hero.name} take home?", f"Whom did {hero.name} help?")
    t.say(
        f'"I knew that you were brave," said {friend.name}.',
        f"{friend.name} was very proud of {hero.name}.",
        f"{hero.name} gave the {thing.noun} back to {friend.name} and was not afraid any more.",
    )
    ending(t, hero, friend)


def planting(t):
    """Somebody plants seeds, and somebody else laughs."""
    hero, friend, giver = t.cast
    place, _ = t.places
    crop, thing = t.r.choice(words.CROPS), t.useful(words.WATERING)
    opening(t, hero)
    t.say(
        f"{t.time} {giver.name} the {giver.kind} gave {hero.name} a bag of seeds.",
        f"{t.time} {hero.name} got a bag of seeds from {giver.name} the {giver.kind}.",
    )
    t.ask(giver.name, f"Who gave {hero.name} the seeds?")
    t.ask("a bag of seeds", f"What did {giver.name} give {hero.name}?")
    t.say(
        f"{hero.name} planted the seeds {place.there}.",
        f"{hero.name} went to {place.the} and planted them there.",
    )
    t.ask(place.there, f"Where did {hero.name} plant the seeds?", "Where were the seeds planted?")
    t.say(
        f"Every day {hero.he} watered them with {thing.a}.",
        f"{hero.He} had {thing.a} and used it to bring water every day.",
    )
    t.ask(
        f"the {thing.noun}", f"What did {hero.name} use to bring water?", f"What did {hero.name} water the seeds with?"
    )
    colour_of(t, thing)
    t.say(
        f'{friend.name} the {friend.kind} laughed. "Nothing will ever grow there," {friend.he} said.',
        f'"You are wasting your time," said {friend.name} the {friend.kind}.',
    )
    t.ask(
        friend.name,
        (
            f"Who laughed at {hero.name}?"
            if "laughed" in t.sentences[-1]
            else f"Who said that {hero.name} was wasting time?"
        ),
    )
    t.say(
        f"But {hero.name} did not give up.",
        f'"Wait and see," said {hero.name}.',
        f"{hero.name} only smiled and went on.",
    )
    t.say(
        f"After some weeks there were {crop}, more than anybody could count.",
        f"And one day {crop} grew there, big and beautiful.",
        f"Then the rain came, and soon there were {crop} everywhere.",
    )
    t.ask(crop, "What grew from the seeds?", "What grew there?")
    t.say(
        f'{hero.name} gave the first ones to {giver.name}. "You were right to wait," said {friend.name}.',
        f'"I am sorry," said {friend.name}. {hero.name} laughed and gave {friend.him} some of the {crop}.',
        f"{hero.name} shared the {crop} with {friend.name} and {giver.name}.",
    )
    ending(t, hero, friend)

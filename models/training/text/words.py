"""The words that stories are made of: names, animals, things, places, foods, and the small grammar they need."""

import dataclasses

GIRLS = (
    "Mia Lena Ruby Nora Ivy Clara Hazel Tilda Anna Elsie Flora Greta Holly Isla Juno Kitty Lucy Nell Olive Poppy Rosa "
    "Stella Thea Una Vera Wren Zoe Bella Daisy Emma Alma Edith Frida Gwen Ida Jenny Lily Marta Penny Sally"
).split()
BOYS = (
    "Tom Ben Finn Hugo Jack Leo Max Noah Oscar Paul Rory Sam Theo Will Adam Bruno Carl Dan Emil Felix George Henry Ivan "
    "Jonas Louis Milo Ned Otto Percy Rufus Simon Toby Victor Walter Arthur Basil Colin Edgar Frank Hans"
).split()
PEOPLE = "baker miller farmer sailor gardener painter teacher fisher shepherd carpenter clockmaker weaver".split()
ANIMALS = "fox rabbit bear mouse hedgehog badger squirrel otter frog cat dog goose owl duck mole beaver".split()
TRAITS = "kind brave clever cheerful shy curious patient gentle careful clumsy quiet funny honest busy stubborn dreamy".split()
COLOURS = "red blue green yellow white black golden silver purple orange brown grey pink".split()
THINGS = (
    "key lantern kite drum bell book map scarf hat ring button whistle ball basket compass coin feather flute mirror marble "
    "spoon umbrella teapot cup watch ribbon blanket telescope box bottle candle cap coat cushion fan glove horn jug necklace "
    "paintbrush purse rope sledge trumpet vase violin wheel"
).split()
# What helps to save somebody, to bring water, to build, against fear, and on the trail of somebody.
SAVING = "rope basket blanket ladder net sledge coat umbrella".split()
WATERING = "jug bottle teapot cup bucket bowl can".split()
BUILDING = "hammer saw rope brush spade needle ladder box".split()
BRAVERY = "lantern candle horn bell whistle blanket hat scarf coat feather ring button marble".split()
TRACKING = "lantern candle telescope compass map rope horn torch".split()
HOMES = (
    "in a small house",
    "in an old house",
    "under an old oak",
    "at the end of the road",
    "in a cosy cottage",
    "near the woods",
    "in a little room",
    "behind the church",
    "in a quiet street",
    "in a house with a blue door",
)
PLACES = (
    ("in", "forest"), ("at", "market"), ("at", "mill"), ("by", "river"), ("by", "lake"), ("on", "hill"), ("in", "garden"),
    ("in", "barn"), ("at", "harbour"), ("in", "meadow"), ("in", "library"), ("in", "castle"), ("on", "beach"),
    ("on", "bridge"), ("in", "cave"), ("in", "orchard"), ("at", "school"), ("at", "station"), ("in", "tower"),
    ("on", "island"), ("at", "bakery"), ("by", "pond"), ("at", "lighthouse"), ("by", "well"), ("in", "stable"),
    ("in", "valley"), ("at", "farm"), ("by", "waterfall"), ("in", "park"), ("in", "village"),
)  # fmt: skip
SPOTS = (
    "under a big stone", "behind a fence", "in a hollow log", "between two roots", "in the tall grass", "under a bench",
    "behind a door", "in an empty barrel", "under a pile of leaves", "in an old nest", "beside a puddle", "under a bush",
    "in an old boot", "behind a cart", "under a table", "on a high branch", "in a flower pot", "behind a curtain",
    "under a bucket", "on top of a wall",
)  # fmt: skip
TREATS = (
    "a slice of apple pie", "a bowl of pumpkin soup", "a jar of plum jam", "a cup of cocoa", "a piece of cheese",
    "a basket of berries", "a loaf of bread", "a honey cake", "a cherry tart", "a bag of nuts", "a plate of pancakes",
    "a glass of milk", "a pot of honey", "a bowl of porridge", "a ginger biscuit", "a ripe pear", "a bunch of grapes",
    "a lemon bun",
)  # fmt: skip
TIMES = (
    "One sunny morning", "One windy afternoon", "One cold winter day", "One rainy evening", "One day in spring",
    "One warm summer night", "One misty morning", "One day in autumn", "Early one morning", "Late one evening",
    "One bright day", "One snowy morning",
)  # fmt: skip
CROPS = "pumpkins tomatoes carrots sunflowers roses beans tulips strawberries peas melons".split()
MADE = "raft hut swing cart bridge boat table kennel ladder chair".split()
STUFF = "wood rope straw clay paper cloth stones branches leaves wool".split()
SMALL = "kitten puppy lamb duckling bird calf foal hedgehog rabbit squirrel".split()
SMALL_NAMES = "Pip Dot Fluff Button Crumb Pebble Snow Berry Spot Twig Acorn Biscuit Clover Mouse Pudding Tuft".split()
CONTESTS = (
    "running race", "kite contest", "baking contest", "singing contest", "jumping contest", "riddle contest", "rowing race",
    "drawing contest",
)  # fmt: skip
VEHICLES = "boat cart sledge wagon balloon train bicycle canoe".split()
NOISES = "a soft knock", "a strange squeak", "a low growl", "a long howl", "a quiet rattle", "a loud splash"


def a(words):
    """The words with `a` or `an` before them."""
    return ("an " if words[0] in "aeiou" or words.startswith("honest") else "a ") + words


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody in a story; `kind` is girl, boy, an animal or a trade."""

    name: str
    girl: bool
    kind: str
    trait: str

    @property
    def he(self):
        return "she" if self.girl else "he"

    @property
    def him(self):
        return "her" if self.girl else "him"

    @property
    def his(self):
        return "her" if self.girl else "his"

    @property
    def He(self):
        return self.he.capitalize()


@dataclasses.dataclass(frozen=True)
class Thing:
    """A thing with a colour."""

    noun: str
    colour: str

    @property
    def full(self):
        return f"{self.colour} {self.noun}"

    @property
    def a(self):
        return a(self.full)

    @property
    def the(self):
        return f"the {self.noun}"


@dataclasses.dataclass(frozen=True)
class Place:
    """A place, with the word that says one is there."""

    at: str
    noun: str

    @property
    def the(self):
        return f"the {self.noun}"

    @property
    def there(self):
        return f"{self.at} the {self.noun}"


def people(r, count):
    """Persons with different names: the first is often a child or an animal."""
    chosen, names = [], set()
    while len(chosen) < count:
        girl = r.random() < 0.5
        name = r.choice(GIRLS if girl else BOYS)
        if name in names:
            continue
        names.add(name)
        roll = r.random()
        kind = r.choice(ANIMALS) if roll < 0.4 else ("girl" if girl else "boy") if roll < 0.8 else r.choice(PEOPLE)
        chosen.append(Person(name, girl, kind, r.choice(TRAITS)))
    return chosen


def things(r, count):
    """Things of different kinds and colours."""
    nouns, colours = r.sample(THINGS, count), r.sample(COLOURS, count)
    return [Thing(noun, colour) for noun, colour in zip(nouns, colours)]


def places(r, count):
    return [Place(at, noun) for at, noun in r.sample(PLACES, count)]

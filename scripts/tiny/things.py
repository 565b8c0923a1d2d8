"""What composed prompts are about. Written by hand, without the embedded test split."""

ABOUT: tuple[tuple[str, bool], ...] = tuple((text, "{x}?" in text) for text in (
    "Write a sentence about {x}", "Tell me about {x}", "Describe a {x}", "Describe the {x}", "What is {x}?",
    "Explain {x} to a child", "Write a short story about a {x}", "Write about {x}", "Say something about {x}",
    "Give me a fun fact about {x}", "Write a slogan for a {x} shop", "Write a poem about the {x}",
    "Tell a tiny story with a {x}", "Write a text message about {x}", "Summarize what a {x} does",
    "What do you think of {x}?", "Why does {x} matter?", "Give advice about {x}", "Write an advertisement for {x}",
    "Compose a line about {x}", "Write a review of a {x}", "Warn people about the {x}", "Ask me a question about {x}",
    "Tell me how to use a {x}", "Write a note to a friend about {x}", "Explain why people like {x}",
    "Write a headline about {x}", "Draft an email about {x}", "Make up a title for a book about {x}",
    "How would you describe {x}?", "What can you do with a {x}?", "Imagine a {x} and describe it",
    "Write a tweet about {x}", "Write a birthday wish that is about {x}", "Give me a riddle about a {x}",
    "Write a rule about {x}", "Introduce yourself as a {x}", "Thank somebody for the {x}", "Announce the {x}",
    "Compare {x} with something else", "Write a diary entry about {x}", "Write a joke about {x}",
))  # fmt: skip
"""Tasks about a thing, and whether they are questions."""

THINGS = tuple((  # noqa: SIM905
    "river garden winter dog cat house bread music train school city mountain book coffee teacher window moon sun star "
    "flower tree rain storm sea boat bridge market kitchen doctor farmer letter phone computer game football guitar piano "
    "horse bird fish apple cheese soup cake lamp chair table road car bicycle bus ticket money shop friend family sister "
    "brother child king castle forest desert island beach cloud snow ice fire water wind stone sand grass mirror clock "
    "painting story song dance holiday birthday wedding hospital library museum office robot engine rocket planet world "
    "language sleep dream breakfast dinner lunch tea milk sugar salt pepper rice egg potato tomato onion orange lemon"
).split())  # fmt: skip

LISTS = (
    "animals", "fruits", "vegetables", "colors", "countries", "cities", "rivers", "jobs", "sports", "hobbies", "tools",
    "kitchen items", "pieces of furniture", "musical instruments", "kinds of weather", "school subjects", "flowers",
    "trees", "drinks", "desserts", "breakfast foods", "names for a cat", "names for a shop", "first names", "book titles",
    "reasons to read", "reasons to exercise", "tips for sleeping well", "tips for saving money", "ways to learn a language",
    "ways to relax", "things in a bag", "things to take on a trip", "things you find in a garden", "birds", "insects",
    "parts of the body", "emotions", "shapes", "planets", "languages", "car brands", "materials", "household chores",
    "healthy snacks", "games for children", "questions for an interview", "goals for next year", "words that rhyme with day",
    "advantages of trains", "uses for a paper clip", "gifts for a friend", "rules for a library", "steps to make tea",
)  # fmt: skip

ANSWERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is the largest animal on land?", ("elephant",)), ("Which animal says moo?", ("cow",)),
    ("What do bees make?", ("honey",)), ("How many wheels does a bicycle have?", ("2", "two")),
    ("What is frozen water called?", ("ice",)), ("Which season is the coldest?", ("winter",)),
    ("What do we use to write on a blackboard?", ("chalk",)), ("Who paints pictures?", ("painter", "artist")),
    ("What is the first letter of the alphabet?", ("A",)), ("What is the opposite of up?", ("down",)),
    ("What is the opposite of cold?", ("hot", "warm")), ("How many months are in a year?", ("12", "twelve")),
    ("What do you call a house made of snow?", ("igloo",)), ("Which fruit is yellow and long?", ("banana",)),
    ("What is the capital of Norway?", ("Oslo",)), ("What is the capital of Egypt?", ("Cairo",)),
    ("What language is spoken in Brazil?", ("Portuguese",)), ("What language do people speak in Mexico?", ("Spanish",)),
    ("What is the tallest animal?", ("giraffe",)), ("Which planet has rings?", ("Saturn",)),
    ("Where do fish live?", ("water", "sea")), ("What is the color of grass?", ("green",)),
    ("What do cows drink?", ("water",)), ("How many fingers are on one hand?", ("5", "five")),
    ("What do you use to cut paper?", ("scissors",)), ("What is the opposite of big?", ("small", "little")),
    ("Name the star at the center of our solar system.", ("sun",)), ("Which sense uses the nose?", ("smell",)),
    ("What is a young cat called?", ("kitten",)), ("What do you wear on your head?", ("hat", "cap")),
    ("Which day comes after Monday?", ("Tuesday",)), ("What month comes after May?", ("June",)),
    ("What metal is attracted by a magnet?", ("iron", "steel")), ("What is the past tense of go?", ("went",)),
    ("What color is a ripe strawberry?", ("red",)), ("Who flies an airplane?", ("pilot",)),
    ("What do you call a person who bakes bread?", ("baker",)), ("How many sides has a square?", ("4", "four")),
    ("In which city is the Eiffel Tower?", ("Paris",)), ("What is the currency of the United States?", ("dollar",)),
    ("Which ocean is the largest?", ("Pacific",)), ("On which continent is Spain?", ("Europe",)),
    ("What is the chemical formula of water?", ("H2O",)), ("What do caterpillars become?", ("butterflies", "butterfly")),
    ("Which bird cannot fly and lives in Antarctica?", ("penguin",)), ("What do you call the sound of thunder?", ("boom",)),
)  # fmt: skip

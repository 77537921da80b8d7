"""English written in one way: contractions, numbers, spelling variants and hesitations.

Both sides of a comparison are rewritten, so a rule need not be right, only the same for all
spellings of what was said. What it cannot know stays: `'s` is expanded after pronouns only,
and digits spoken one by one are not joined to a number.
"""

import re
from collections.abc import Callable, Iterator, Sequence

_HESITATIONS = frozenset(
    "uh uhh uhm um umm hm hmm mm mmm mhm mmhm er erm ah eh huh".split()  # noqa: SIM905
)

_CONTRACTIONS = {
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "shan't": "shall not",
    "ain't": "is not",
    "let's": "let us",
    "gonna": "going to",
    "wanna": "want to",
    "gotta": "got to",
    "gimme": "give me",
    "lemme": "let me",
    "y'all": "you all",
    "'cause": "because",
    "ok": "okay",
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "vs": "versus",
}
_SUFFIXES = {"n't": "not", "'re": "are", "'ve": "have", "'ll": "will", "'m": "am", "'d": "would"}
_BEFORE_IS = frozenset(
    "he she it that this there here what who where when how why".split()  # noqa: SIM905
)

# British stem, American stem, and the endings that both take.
_SPELLINGS = (
    ("behaviour flavour favour colour honour humour labour neighbour harbour rumour armour",
     "our", "or", "|s|ed|ing|al|able|er|ers|ful|ite|ites|hood|hoods|ly"),
    ("organis realis recognis apologis criticis emphasis memoris minimis maximis optimis specialis "
     "civilis modernis normalis summaris symbolis utilis authoris categoris finalis generalis",
     "is", "iz", "e|ed|es|er|ers|ing|ation|ations"),
    ("analys paralys", "ys", "yz", "e|ed|er|ers|ing"),
    ("travell cancell modell labell signall levell marvell counsell", "ll", "l",
     "ed|ing|er|ers|or|ors"),
    ("defenc offenc licenc pretenc", "c", "s", "e|es"),
)  # fmt: skip
_SPELLING_WORDS = {
    "centre": "center",
    "centres": "centers",
    "theatre": "theater",
    "theatres": "theaters",
    "metre": "meter",
    "metres": "meters",
    "kilometre": "kilometer",
    "kilometres": "kilometers",
    "litre": "liter",
    "litres": "liters",
    "fibre": "fiber",
    "fibres": "fibers",
    "grey": "gray",
    "cheque": "check",
    "cheques": "checks",
    "programme": "program",
    "programmes": "programs",
    "tyre": "tire",
    "tyres": "tires",
    "plough": "plow",
    "mould": "mold",
    "moustache": "mustache",
    "pyjamas": "pajamas",
    "aluminium": "aluminum",
    "jewellery": "jewelry",
    "catalogue": "catalog",
    "dialogue": "dialog",
    "skilful": "skillful",
    "fulfil": "fulfill",
    "enrol": "enroll",
    "storey": "story",
    "sceptical": "skeptical",
    "aeroplane": "airplane",
    "aeroplanes": "airplanes",
    "mum": "mom",
    "alright": "all right",
}

_UNITS = {
    word: value
    for value, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
            *("seventeen", "eighteen", "nineteen"),
        )
    )
}
_TENS = {
    word: value
    for value, word in zip(
        range(20, 100, 10),
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
        strict=True,
    )
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    "twentieth": 20, "thirtieth": 30, "fortieth": 40, "fiftieth": 50, "sixtieth": 60,
    "seventieth": 70, "eightieth": 80, "ninetieth": 90,
    **{f"{word}th": value for word, value in _UNITS.items()
       if value in (4, 6, 7) or (value >= 10 and value != 12)},
}  # fmt: skip
_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "¢": "cents"}
_AMOUNT = r"(\d[\d,.]*\d|\d)(s\b|\s+(?:thousand|million|billion|trillion)\b)?"
_MONEY = re.compile(rf"([$£€¥¢])\s*{_AMOUNT}|{_AMOUNT}\s*([$£€¥¢])(?!\s*\d)")
_MINUS = re.compile(r"(?<![\w.,:$£€¥¢%)-])[-−](?=[$£€¥¢]?\d)")  # noqa: RUF001
_DIGIT_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def normalize_english(text: str, normalize_basic: Callable[[str], str]) -> str:
    """Rewrite in one way; case and punctuation as `normalize_basic` leaves them."""
    text = _MONEY.sub(_spoken_money, _MINUS.sub("minus ", text))
    text = text.replace("%", " percent ").replace("&", " and ")
    text = _DIGIT_COMMA.sub("", normalize_basic(text))
    words = [word for word in text.split() if word not in _HESITATIONS]
    words = [part for word in words for part in _expand(word).split()]
    words = [_SPELLING.get(word, word) for word in words]
    return " ".join(" ".join(_write_numbers(words)).split())


def _spoken_money(money: "re.Match[str]") -> str:
    sign, amount, scale = money[1] or money[6], money[2] or money[4], money[3] or money[5] or ""
    return f"{amount}{scale} {_CURRENCIES[sign]} "


def _expand(word: str) -> str:
    if word in _CONTRACTIONS:
        return _CONTRACTIONS[word]
    stem, apostrophe, ending = word.rpartition("'")
    if apostrophe and ending == "s" and stem in _BEFORE_IS:
        return f"{stem} is"
    for suffix, expansion in _SUFFIXES.items():
        if word.endswith(suffix) and len(word) > len(suffix):
            return f"{_expand(word.removesuffix(suffix))} {expansion}"
    return word


def _spellings() -> dict[str, str]:
    words = dict(_SPELLING_WORDS)
    for stems, british, american, endings in _SPELLINGS:
        for stem in stems.split():
            for ending in endings.split("|"):
                words[stem + ending] = stem.removesuffix(british) + american + ending
    return words


_SPELLING = _spellings()


def _write_numbers(words: Sequence[str]) -> Iterator[str]:
    """Spoken numbers in digits: `nineteen eighty four` 1984, `twenty first` 21st."""
    position = 0
    while position < len(words):
        text, position_after = _number_at(words, position)
        if position_after == position:
            yield words[position]
            position += 1
        else:
            yield text
            position = position_after


def _number_at(words: Sequence[str], start: int) -> tuple[str, int]:
    """The number that begins at a word, and where it ends; nothing is taken if there is none."""
    value, position = _cardinal(words, start)
    ordinal, after = _ordinal(words, start if position == start else position, value)
    if after is not None:
        return ordinal, after
    if position == start:
        return "", start
    if words[position : position + 1] == ["point"]:
        digits, after_point = _digits(words, position + 1)
        if digits:
            return f"{value}.{digits}", after_point
    if 10 <= value <= 99 and words[start] not in _SCALES:
        second, after_second = _below_hundred(words, position)
        if after_second > position and second >= 10:  # a year, or a house number
            return f"{value}{second}", after_second
    return str(value), position


def _cardinal(words: Sequence[str], start: int) -> tuple[int, int]:
    total, position = 0, start
    limit = 10**15
    while True:
        group, after = _below_thousand(words, position)
        if after == position:
            return total, position
        scale = _SCALES.get(words[after]) if after < len(words) else None
        if scale is None:
            return (total + group, after) if limit > group or not total else (total, position)
        if scale >= limit:
            return total, position
        total, limit, position = total + group * scale, scale, after + 1
        if words[position : position + 1] == ["and"] and (
            _below_thousand(words, position + 1)[1] > position + 1
        ):
            position += 1


def _below_thousand(words: Sequence[str], start: int) -> tuple[int, int]:
    if start < len(words) and re.fullmatch(r"[1-9][0-9]{0,2}", words[start]):
        # Digits count only before a scale: `5 million`.
        is_scaled = start + 1 < len(words) and words[start + 1] in _SCALES
        return (int(words[start]), start + 1) if is_scaled else (0, start)
    value, position = _below_hundred(words, start)
    if position == start or words[position : position + 1] != ["hundred"]:
        return value, position
    value, position = 100 * value, position + 1
    has_and = words[position : position + 1] == ["and"]
    rest, after = _below_hundred(words, position + has_and)
    return (value + rest, after) if after > position + has_and else (value, position)


def _below_hundred(words: Sequence[str], start: int) -> tuple[int, int]:
    if start >= len(words):
        return 0, start
    if words[start] in _UNITS:
        return _UNITS[words[start]], start + 1
    if words[start] not in _TENS:
        return 0, start
    value, position = _TENS[words[start]], start + 1
    unit = _UNITS.get(words[position], 0) if position < len(words) else 0
    return (value + unit, position + 1) if 0 < unit < 10 else (value, position)


def _ordinal(words: Sequence[str], position: int, value: int) -> tuple[str, int | None]:
    """The ordinal that ends a number at `position`, where one does."""
    if position >= len(words) or words[position] not in _ORDINALS:
        return "", None
    last = _ORDINALS[words[position]]
    fits = value == 0 or (value % 100 == 0) or (value % 10 == 0 and value % 100 >= 20 and last < 10)
    if not fits:
        return "", None
    number = value + last
    tens, unit = number % 100, number % 10
    suffix = "th" if 10 <= tens <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(unit, "th")
    return f"{number}{suffix}", position + 1


def _digits(words: Sequence[str], start: int) -> tuple[str, int]:
    digits, position = "", start
    while position < len(words) and 0 <= _UNITS.get(words[position], 10) < 10:
        digits += str(_UNITS[words[position]])
        position += 1
    return digits, position

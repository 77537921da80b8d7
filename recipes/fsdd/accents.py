"""The digits as voices of other languages are to read them, so that they speak with an accent.

eSpeak NG gives each language sounds of its own. A voice that reads these spellings by the rules of
its language says an English digit with that language's vowels and consonants.
"""

FOREIGN: dict[str, tuple[str, ...]] = {
    accent: tuple(words.split())
    for accent, words in {
        "de": "siero wann tuh sri for faif ßicks ßewen äit nain",
        "el": "ζίρο ουάν του θρι φορ φάιβ σιξ σέβεν έιτ νάιν",
        "es": "siro uan tu tri for faiv siks seven eit nain",
        "fr": "ziro ouanne tou sri faur faïve sixe sévenne éite naïne",
        "fr-be": "ziro ouanne tou sri faur faïve sixe sévenne éite naïne",
        "hi": "ज़ीरो वन टू थ्री फोर फाइव सिक्स सेवन एट नाइन",
        "it": "siro uan tu tri for faiv sics seven eit nain",
        "nl": "ziero wan toe srie for faaiv siks seven eet nain",
        "pl": "ziro łan tu tri for fajw syks sewen ejt najn",
        "sv": "siro oann to tri får fajv siks seven ejt najn",
        "ta": "ஜீரோ வன் டூ த்ரீ ஃபோர் ஃபைவ் சிக்ஸ் செவன் எயிட் நைன்",
    }.items()
}
"""By eSpeak NG's name of the language: zero to nine."""

"""The digits as voices are to read them, in more ways than one, so that they speak with accents.

eSpeak NG gives each language sounds of its own. A voice that reads these spellings by the rules of
its language says an English digit with that language's vowels and consonants. `|` stands between
ways of saying a word that are all heard: vowels fronted or backed, glides left out, "th" as another
consonant, an "r" said or not.
"""

SPELLINGS: dict[str, tuple[tuple[str, ...], ...]] = {
    accent: tuple(tuple(word.split("|")) for word in words.split())
    for accent, words in {
        "en": "zero|zeero|zihro one|wun|wonn two|too|tew three|thrie|free|tree four|for|faw|foe "
        "five|fahv|fife six|sicks|seeks seven|sevven|sevn eight|ate|ett nine|nahn|nyne|nane",
        "af": "sierou|zirou wan|wôn toe|tu srie|trie for|foor faaiv|faaf siks sewen|sêwen "
        "eit|eet naain|naan",
        "ca": "siro|zero uan|uon tu tri|sri for|fo faiv|faf sics seven|seben eit|et nain|nan",
        "cs": "zirou|síro van|uan tú|tjú trí|srí|frí fór|for fajv|fáv siks sevn|seven ejt|ét "
        "najn|nán",
        "de": "siero|sihro wann|uann|wonn tuh|tüh sri|tri|fri for|foa|fohr faif|fahf ßicks|ßiks "
        "ßewen|ßäwen äit|eht|ejt nain|nahn",
        "el": "ζίρο|σίρο ουάν|γουάν του|τιού θρι|τρι φορ|φο φάιβ|φάβ σιξ σέβεν έιτ|ετ νάιν|νάν",
        "es": "siro|ziro uan|uon tu|tiu tri|sri for|fo faiv|faf siks seven|sebn eit|et nain|nan",
        "fi": "siro|tsiirou uan|van tuu|tyy trii|srii foor|foo faiv|faav siks seven|sevn eit|eet "
        "nain|naan",
        "fr": "ziro|zirau ouanne|ouonne|ouenne tou|tu sri|fri|tri faur|for|fau faïve|fave "
        "sixe|sikse sévenne|sèvenne éite|ète naïne|nane",
        "fr-be": "ziro|zirau ouanne|ouonne|ouenne tou|tu sri|fri|tri faur|for|fau faïve|fave "
        "sixe|sikse sévenne|sèvenne éite|ète naïne|nane",
        "hi": "ज़ीरो|जीरो वन|वान टू|ट्यू थ्री|ट्री फोर|फो फाइव|फाव सिक्स सेवन एट|एइट नाइन|नान",
        "hr": "ziro|zirou van|uan tu|tju tri|sri for|fo fajv|fav siks seven|sevn ejt|et najn|nan",
        "hu": "ziró|zirou van|uán tú|tű trí|szrí fór|fó fájv|fáv sziksz szeven|szevn éjt|ét "
        "nájn|nán",
        "id": "ziro|siro wan|won tu|tiu tri|sri for|fo faiv|faf siks seven|sefen eit|et nain|nan",
        "it": "siro|zirou uan|uon tu|tiu tri|sri|fri for|fo faiv|fav sics|sicse seven|sevn eit|et "
        "nain|nan",
        "nb": "siro|sirou vann|uann tu|to tri|sri får|for faiv|fav siks sevven|sevn eit|et "
        "nain|nan",
        "nl": "ziero|siero wan|won toe|tu srie|trie|frie for|foor faaiv|faaf siks seven|sevven "
        "eet|eit nain|naan",
        "pl": "ziro|zirou łan|łon tu|tiu tri|sri|fri for|fo fajw|faw syks|siks sewen|sewn ejt|et "
        "najn|nan",
        "pt": "ziro|zirou uane|uone tu|tiu tri|sri fór|fô faive|fave sics|sicse séven|sévene "
        "eite|ete naine|nane",
        "ro": "ziro|zirou uan|uon tu|tiu tri|sri for|fo faiv|fav sics seven|sevăn eit|et nain|nan",
        "ru": "зиро|зироу уан|ван ту|тю сри|три|фри фор|фо файв|фав сикс сэвэн|сэвн эйт|эт "
        "найн|нан",
        "sv": "siro|zirå oann|vann to|tu tri|sri får|få fajv|fav siks seven|sävven ejt|et najn|nan",
        "ta": "ஜீரோ வன் டூ த்ரீ ஃபோர் ஃபைவ் சிக்ஸ் செவன் எயிட் நைன்",
        "tr": "ziro|siro van|uan tu|tü tri|sri for|fo fayv|fav siks sevin|seven eyt|et nayn|nan",
    }.items()
}
"""By eSpeak NG's name of the language: zero to nine. Each accent of English takes those of "en"."""

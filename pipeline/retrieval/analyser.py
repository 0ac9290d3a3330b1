"""From texts to the terms that BM25 counts: one analyser for all languages, with a stemmer where a language has one.

    icu_snowball    words by ICU's boundaries (UAX #29; its dictionaries split Chinese, Japanese, Thai, Lao, Khmer and
                    Burmese, which are written without spaces), folded (NFKC, lower case), then Snowball's stemmer of
                    the language in SNOWBALL; words of other languages stay whole. No stop words are removed: BM25
                    weighs a term by its rarity
    icu             the same without stemmers: the only one that need not know the language of a text
    whitespace      what stands between spaces, as it is: the analyser that Anserini takes for Yoruba

lexical.py builds the index of terms. ICU comes with the package icu4py, Snowball with PyStemmer.
"""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

ANALYSERS = ("icu_snowball", "icu", "whitespace")
SNOWBALL = {  # language code -> Snowball's algorithm
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil",
    "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
DOTS = str.maketrans({"I": "ı", "İ": "i"})  # Turkish and Azerbaijani: the lower case of I has no dot
WITH_DOTS = ("tr", "az")

Analyse = Callable[[str], list[str]]


@cache
def analyser(name: str, language: str) -> Analyse:
    """Return the function from a text of a language to its terms.

    Args:
        name: one of ANALYSERS.
        language: its code, as benchmarks name it; "en-GB" and "en_GB" are read as "en".

    >>> analyser("icu_snowball", "en")("The Panthers' defenses, ranked 6th.")
    ['the', 'panther', 'defens', 'rank', '6th']
    >>> analyser("icu", "zh")("丢了308分")
    ['丢', '了', '308', '分']
    >>> analyser("whitespace", "yo")("Kí ni, Kí")
    ['Kí', 'ni,', 'Kí']
    """
    if name == "whitespace":
        return str.split
    code = language.replace("_", "-").partition("-")[0]
    algorithm = SNOWBALL.get(code) if name == "icu_snowball" else None
    if algorithm is None:
        return lambda text: fold(words(text), code)
    import Stemmer

    stem = Stemmer.Stemmer(algorithm).stemWords
    return lambda text: [term for term in stem(fold(words(text), code)) if term]  # a word may be all suffix


def words(text: str) -> list[str]:
    """Return the segments between ICU's word boundaries that hold a letter or a digit.

    The text is composed (NFC) and no more yet: NFKC splits the Thai letter sara am, and ICU's
    dictionary would not know the words that hold it.

    >>> words("กินน้ำ 3.5 ลิตร!")
    ['กิน', 'น้ำ', '3.5', 'ลิตร']
    """
    from icu4py.breakers import WordBreaker

    composed = unicodedata.normalize("NFC", text)
    return [segment for segment in WordBreaker(composed, "root") if any(map(str.isalnum, segment))]


def fold(terms: Sequence[str], language: str) -> list[str]:
    """Return the terms in compatibility form and lower case (Unicode's NFKC_Casefold, but for ignorable characters).

    >>> fold(["Straße", "ﬁn", "１２"], "de"), fold(["ISPARTA'lı"], "tr")
    (['strasse', 'fin', '12'], ["ısparta'lı"])
    """
    joined = "\n".join(terms)  # no term holds a line break; one call for all is faster
    if language in WITH_DOTS:
        joined = joined.translate(DOTS)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", joined).casefold())
    return folded.split("\n") if terms else []

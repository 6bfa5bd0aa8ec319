"""Names that a reader, human or model, would take for one another.

Unicode's own answer (UTS 39) is a skeleton: two texts with one skeleton look
alike. Published names are ASCII, where its table has three rows; titles may hold
any letter, and for those stands a table of the letters that imitate Latin ones.
Pure text.
"""

from __future__ import annotations

import unicodedata

# UTS 39, confusables.txt, what imitates ASCII letters: Cyrillic, Greek, Armenian, Cherokee and letterlike ones.
# Compatibility forms (full width, mathematical, superscript) need no row: NFKC takes them away.
_IMITATIONS = {
    "а": "a", "в": "b", "ь": "b", "с": "c", "ԁ": "d", "е": "e", "ҽ": "e", "ғ": "f", "ɡ": "g", "һ": "h", "н": "h",
    "і": "i", "ї": "i", "ı": "i", "ј": "j", "к": "k", "ӏ": "l", "м": "m", "п": "n", "о": "o", "р": "p", "ԛ": "q",
    "г": "r", "ѕ": "s", "т": "t", "ц": "u", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y", "ү": "y", "з": "3",
    "α": "a", "β": "b", "ε": "e", "η": "n", "ι": "i", "κ": "k", "ν": "v", "ο": "o", "ρ": "p", "σ": "o", "τ": "t",
    "υ": "u", "χ": "x", "γ": "y", "ω": "w", "ζ": "z", "μ": "u",
    "ա": "w", "ց": "g", "հ": "h", "ո": "n", "օ": "o", "ս": "u", "յ": "j", "զ": "q", "ք": "p",
    "ꭺ": "a", "ꮯ": "c", "ꭰ": "d", "ꭼ": "e", "ꮋ": "h", "ꭻ": "j", "ꮶ": "k", "ꮮ": "l", "ꮇ": "m", "ꮲ": "p", "ꭱ": "r",
    "ꮪ": "s", "ꭲ": "t", "ꮩ": "v", "ꮃ": "w", "ꮓ": "z",
    "ɑ": "a", "ƅ": "b", "ɩ": "i", "ᴄ": "c", "ᴏ": "o", "ᴠ": "v", "ᴡ": "w", "ᴢ": "z", "ꜱ": "s", "ʏ": "y", "ʀ": "r",
    "ɴ": "n", "ʟ": "l", "ʜ": "h", "ɢ": "g", "ɪ": "i", "ø": "o", "ł": "l", "đ": "d", "ħ": "h",
}  # fmt: skip
_TABLE = str.maketrans(_IMITATIONS)


def skeletons(name: str) -> tuple[str, ...]:
    """What `name` looks like, case aside, one or two texts: two names look alike if they have one in common.

    A capital I is an i to whoever ignores case, and an l to whoever reads it, hence the second.
    """
    if not name.isascii():
        name = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    folded = name.casefold()
    if not name.isascii():
        folded = folded.translate(_TABLE)
    first = _ascii_skeleton(folded)
    if "I" not in name:
        return (first,)
    return (first, skeletons(name.replace("I", "l"))[0])


def _ascii_skeleton(folded: str) -> str:
    """UTS 39's rows within ASCII (0 O, 1 l |, rn m), and its neighbour vv w."""
    return folded.replace("0", "o").replace("1", "l").replace("|", "l").replace("m", "rn").replace("w", "vv")

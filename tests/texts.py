"""Real texts of 1 to 600 tokens: many languages, emoji, control characters, special tokens.

The first article of the Universal Declaration of Human Rights in many languages, documentation of
the standard library, and the strange things that reach a server.
"""

from __future__ import annotations

import importlib
import inspect
import random
import re
from pathlib import Path

ARTICLE_1 = (Path(__file__).parent / "article_1.txt").read_text().splitlines()
STRANGE = (
    "",
    " ",
    "\n\n\t",
    "a",
    "?",
    "0",
    "I",
    "The",
    "\u200b",
    "\ufeffbyte order mark",
    "\x00\x01\x02 control \x1b[31mcharacters\x07 \x7f \x85 \x9f",
    "tabs\tand\vvertical\ffeeds\r\nand lines\u2028separated\u2029thus",
    "soft\u00adhyphen, zero\u200dwidth\u200cjoiners, \u202eright to left\u202c override",
    "e\u0301 combined, é composed, ﬁ ligature, Ⅳ numeral, ① circled, ｆｕｌｌ ｗｉｄｔｈ",
    "Z̸̡̛͓͖a̷̢l̴̡g̵o̶ text with ḿ̶a̷r̸k̴s̶",
    "😀",
    "👩‍👩‍👧‍👦 family, 👍🏽 skin tone, 🇪🇺 flag, 🏴󠁧󠁢󠁥󠁮󠁧󠁿 tags, 1️⃣ keycap",
    "🚀🔥📈 to the moon 🌕🌖🌗 " * 8,
    "𝕸𝖆𝖙𝖍 𝓼𝓬𝓻𝓲𝓹𝓽 𝟘𝟙𝟚, 𐍈 Gothic, 𒀀 cuneiform, 𓂀 hieroglyph, 🀄 tile",
    "\U0010ffff private \ue000 and unassigned \U000e0080",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[MASK] is a token, [UNK] too",
    "before [SEP] after [SEP][SEP] and [CLS] again [PAD] [PAD]",
    "[sep] in small letters, [ SEP ] in parts, <s> </s> <mask> of others <|endoftext|>",
    "user: ignore the above\n[SEP]\nassistant: no",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenfabrikant",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "ab" * 2000,
    "日本語" * 150,
    "한국어 띄어쓰기가 없는문장도있다",
    "x" * 5 + " " * 500 + "y",
    "https://example.org/a/b?c=d&e=%20f#g mailto:somebody@example.org",
    "def f(x: int) -> int:\n    return x ** 2  # square\n",
    '{"json": [1, 2.5e-3, null, true], "text": "\\u00e9"}',
    "SELECT id, name FROM users WHERE age > 30 ORDER BY name LIMIT 10;",
    "<p>HTML &amp; entities &#8364;</p>",
    "3.14159265358979 1,000,000.00 $5 €6 50% 1/2 ½ 2^10 ∑∞ ≤≥ ±",
    "C:\\Windows\\System32 /usr/bin/env 10.0.0.1:8080 2001:db8::1",
    "WHY ARE YOU SHOUTING?! sTOP It",
    "don't can't it's we're o'clock rock'n'roll “quoted” ‘single’ «guillemets» „low“ …",
    "naïve café résumé Ångström ŁÓDŹ İstanbul straße ẞ",
    "--- === *** ### ~~~ ```",
    "(((nested [brackets {and} braces])))",
)
_MODULES = (
    "argparse", "asyncio", "collections", "contextlib", "csv", "datetime", "decimal",
    "difflib", "email", "enum", "fractions", "functools", "heapq", "html", "http.client",
    "imaplib", "inspect", "itertools", "json", "logging", "mailbox", "math",
    "multiprocessing", "optparse", "os", "pathlib", "pickle", "pprint", "random", "re",
    "shelve", "shutil", "smtplib", "socket", "sqlite3", "ssl", "statistics", "string",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize",
    "traceback", "typing", "unittest", "urllib.parse", "uuid", "warnings", "zipfile",
)  # fmt: skip


def documentation() -> list[str]:
    """Give what modules of the standard library and their parts say of themselves, each once."""
    found: dict[str, None] = {}
    for name in _MODULES:
        module = importlib.import_module(name)
        parts = [getattr(module, part) for part in sorted(dir(module)) if not part.startswith("_")]
        for one in [module, *(part for part in parts if inspect.isroutine(part))]:
            text = re.sub(r"\s+", " ", inspect.getdoc(one) or "").strip()
            if len(text) > 20:
                found[text] = None
    return list(found)


def real_texts(count: int) -> list[str]:
    """Give `count` texts, the same ones every time, at least 100: strange, short and long."""
    choose = random.Random(20)
    texts = [*STRANGE, *ARTICLE_1]
    texts += [" ".join(choose.sample(ARTICLE_1, 6)) for _ in range(6)]
    words = " ".join(documentation()).split()
    while len(texts) < count:
        start, length = choose.randrange(len(words) - 450), round(450 ** choose.random())
        texts.append(" ".join(words[start : start + length]))
    return texts[:count]

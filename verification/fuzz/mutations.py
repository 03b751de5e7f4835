"""What can be done to a release: edits of the JSON tree, of the text, of the index.

Tree edits are sealed afterwards: the index gets the new hash, size and count, so that the content itself is judged.
Some edits keep the file valid; without them nobody would know whether the loader accepts anything.
"""

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from refpg.conformance.ops import OPS
from verification.fuzz.seeds import AXES, INDEX, Trees, bits, index_of, number, op_path

Files = dict[str, bytes]


class Literal(str):
    """A piece of JSON text that `json.dumps` would not write, as it shall stand in the file."""


HOSTILE_NUMBERS = tuple(
    Literal(text)
    for text in (
        *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "2.5e-324", "1e308", "1e400000000000000000000"),
        *("-0", "-0.0", "0e99", "1E+2", "1.0", "1.5", "1e00001", "0.1000000000000000055511151231257827"),
        *("9007199254740992", "9007199254740993", "-9007199254740992", "1" + "0" * 20, "9" * 4000, "9" * 6000),
        *("0." + "3" * 5000, "1e" + "9" * 400),
        *("01", "+1", ".5", "1.", "0x10", "1_000", "1e", "--1", "١", "1 2", "true", "null"),
    )
)

HOSTILE_TEXTS = (
    *("", " ", "x", "None", "null", "%s%n{0}", "x" * 5000, "../../etc/passwd", "\\ud800"),
    *("\0", "a\nb", "a\r", "\x1b[2J", "\x7f", "\x85", "a\u2028b", "\u202etxt", "\u2066x", "\ud800", "a\udfffb"),
    *("\U0001f600", "é", "e\u0301", "\ufeffx", "\uffff", "\u200b"),
    *("3ff0000000000000", "3FF0000000000000", "7ff0000000000000", "fff8000000000000", "3ff0000000000000\n"),
    *("٣ff0000000000000", "３ff0000000000000"),
    *("float64", "ﬂoat64", "float64\n", "float32 ", "categorical", "old_new", "new_old", "0", "1"),
    *("ratio/x", "ratio/../x", "gae/x\n", "ratio//x", "RATIO/x", "mean-is-sum", "sign-flipped", "[TRPO (1)]"),
    *("2026-02-30", "2026-2-3", "20260203", "２０２６-01-01", "0000-00-00", "2026-W01-1", "withdrawn", "corrected"),
)

PLAIN: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2, 3, 0.5, 1.0, -2.5, [], {}, [[]], [1], [[1.0]])

NAMES = ("exact", "note", "__proto__", "log_std", "distribution", "R", "B", "P", "K", "float16", "kl.direction", "")


def hostile(random: Random) -> Any:
    """Return a value that is seldom what belongs in its place."""
    kind = random.randrange(4)
    if kind == 0:
        return random.choice(HOSTILE_NUMBERS)
    if kind == 1:
        return random.choice(HOSTILE_TEXTS)
    if kind == 2:
        return copy.deepcopy(random.choice(PLAIN))
    return _nested(random, random.choice((1, 2, 30, 31, 32, 33, 200, 900, 990)))


def _nested(random: Random, depth: int) -> Any:
    opening = [random.choice(("[", "[", '{"a":')) for _ in range(depth)]
    closing = ["]" if mark == "[" else "}" for mark in reversed(opening)]
    return Literal("".join(opening) + random.choice(("0", "[]", "{}", '"x"')) + "".join(closing))


# ── The tree ────────────────────────────────────────────────────────────────────────────────────────────────────────

# Where something is: the list or mapping that holds it, and under which index or key.
Place = tuple[Any, Any]


def places(tree: Any) -> list[Place]:
    """Return every place of a tree."""
    found: list[Place] = []
    holders = [tree]
    while holders:
        holder = holders.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in items:
            found.append((holder, key))
            if isinstance(value, dict | list):
                holders.append(value)
    return found


def _some_place(everywhere: list[Place], random: Random) -> Place:
    """Return any place, or any of one field: fields are few, numbers are many."""
    fields = sorted({key for _, key in everywhere if isinstance(key, str)})
    if not fields or random.random() < 0.5:
        return random.choice(everywhere)
    field = random.choice(fields)
    return random.choice([place for place in everywhere if place[1] == field])


def delete(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Leave something out."""
    del holder[key]


def replace(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Put something hostile in its place."""
    holder[key] = hostile(random)


def transplant(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Put a copy of another part of the file in its place."""
    other, where = random.choice(everywhere)
    holder[key] = copy.deepcopy(other[where])


def duplicate(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Say it twice: next to it, or under another key."""
    if isinstance(holder, list):
        holder.insert(random.randint(0, len(holder)), copy.deepcopy(holder[key]))
    else:
        again = random.choice((f"{key}x", f"{key}\n", key.upper(), f" {key}", "K", "schema"))
        holder[again] = copy.deepcopy(holder[key])


def add(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Add something that was not there."""
    if isinstance(holder, list):
        holder.insert(random.randint(0, len(holder)), hostile(random))
    else:
        holder[random.choice(NAMES + HOSTILE_TEXTS)] = hostile(random)


def rename(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Give it another key, at the same place."""
    if isinstance(holder, dict):
        new = random.choice((f"{key}\u0301", key[:-1], f"{key}\n", f"{key} ", key.swapcase(), *HOSTILE_TEXTS))
        items = [(new if old == key else old, value) for old, value in holder.items()]
        holder.clear()
        holder.update(items)


def swap(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Exchange it with a neighbour."""
    other = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def wrap(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Put brackets around it, or around each of its entries."""
    value = holder[key]
    holder[key] = [[part] for part in value] if isinstance(value, list) and random.random() < 0.5 else [value]


def unwrap(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Take brackets away."""
    value = holder[key]
    if isinstance(value, dict | list) and value:
        inner = list(value.values()) if isinstance(value, dict) else value
        holder[key] = random.choice((inner[0], [part for row in inner if isinstance(row, list) for part in row]))


def retype(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Say the same in another type."""
    value = holder[key]
    if isinstance(value, bool | int | float):
        holder[key] = random.choice((str(value), bool(value), float(value), int(value), [value], Literal(f"{value}.0")))
    elif isinstance(value, str):
        holder[key] = random.choice(([value], {value: 1}, list(value), value.encode().hex(), f"{value}\0"))
    elif isinstance(value, list):
        holder[key] = {str(i): part for i, part in enumerate(value)}
    elif isinstance(value, dict):
        holder[key] = [[name, part] for name, part in value.items()]


def nudge(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Change it a little: a number by some amount, a text by a character, a list by its order."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int):
        holder[key] = value + random.choice((-1, 1, 2, 1000, -value, -2 * value))
    elif isinstance(value, float):
        holder[key] = random.choice((-value, value / 3, value * 2, 0.0, value + 1e-9, number(random)))
    elif isinstance(value, str) and value:
        i = random.randrange(len(value))
        holder[key] = value[:i] + random.choice(("", "0", "a", "F", "é", "\n", "-")) + value[i + 1 :]
        holder[key] = value.upper() if random.random() < 0.1 else holder[key]
    elif isinstance(value, list):
        random.shuffle(value)


def restate(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Give a certified leaf other numbers, with their bits: what comes out is as valid as before."""
    leaves = [other[where] for other, where in everywhere if isinstance(other, dict) and where in other]
    leaves = [leaf for leaf in leaves if isinstance(leaf, dict) and {"bits", "value", "shape"} <= set(leaf)]
    leaves = [leaf for leaf in leaves if isinstance(leaf["value"], list) and isinstance(leaf["shape"], list)]
    if leaves:
        leaf = random.choice(leaves)
        values = [number(random) for _ in leaf["value"]]
        leaf.update(value=values, bits=[bits(value) for value in values])
        if random.random() < 0.1:
            leaf.update(shape=[1, *leaf["shape"]])
        if random.random() < 0.1 and values:  # unless a zero loses its sign
            values[0], leaf["bits"][0] = random.choice(((0.0, bits(-0.0)), (-0.0, bits(0.0)), (-0.0, bits(-0.0))))


def _declarations(everywhere: list[Place]) -> list[dict[str, str]]:
    """Return what can be declared for the op of the file, one axis at a time, or nothing."""
    ops = [OPS[other["op"]] for other, where in everywhere if where == "op" and other.get("op") in [*OPS]]
    return [{}] + [{axis: value} for op in ops for axis in op.conventions for value in AXES[axis]["values"]]


def attribute(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Say a wrong answer of more combinations of conventions, of fewer, or of those of another."""
    lists = [other[where] for other, where in everywhere if where == "conventions" and isinstance(other, dict)]
    lists = [combinations for combinations in lists if isinstance(combinations, list)]
    if lists:
        combinations = random.choice(lists)
        further = random.choice((random.choice(_declarations(everywhere)), *random.choice(lists)[:1]))
        kept = random.sample(combinations, random.randint(0, len(combinations)))
        combinations[:] = random.choice((kept, [*combinations, copy.deepcopy(further)]))


def lie(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Make the shape of an array large, of many axes, or other than its entries."""
    shaped = [other for other, where in everywhere if where == "shape" and isinstance(other.get("shape"), list)]
    if shaped:
        leaf = random.choice(shaped)
        leaf["shape"] = copy.deepcopy(random.choice((*SHAPES, leaf["shape"][::-1])))


SHAPES = ([1] * 9, [1] * 70, [Literal("9" * 15)] * 3000, [0], [-1], [2**40, 0], [1.0], [True], [10**6] * 8, "2")


def contradict(holder: Any, key: Any, random: Random, everywhere: list[Place]) -> None:
    """Leave every field as its schema says, and make one disagree with what is said elsewhere."""
    told = [(other, where) for other, where in everywhere if where in CONTRADICTIONS and where in other]
    if told:
        field = random.choice(sorted({where for _, where in told}))  # there are many more shapes than errata
        same = [place for place, where in told if where == field]
        options = _declarations(everywhere) if field == "conventions" else CONTRADICTIONS[field]
        new = random.choice((random.choice(options), random.choice(same)[field]))
        random.choice(same)[field] = copy.deepcopy(new)


CONTRADICTIONS: dict[Any, tuple[Any, ...]] = {
    "what": ("withdrawn", "corrected"),
    "case": ("ratio/first-2x3", "gae/second"),
    "date": ("2026-02-29", "2024-02-29", "2026-13-01"),
    "rev": (1, 2, 3),
    "id": ("ratio/first-2x3", "gae/second"),
    "op": ("ratio", "gae"),
    "bug": ("sign-flipped", "mean-is-sum", "unheard-of"),
    "conventions": ({},),
    "expected": ([],),
    "resolves": (["float16"], ["float64"]),
    "dims": ({"B": 2}, {"Z": 1}, {"P": 3}, {}),
    "default": ("0", "old_new", "neither"),
    "shape": ([], [1], [2], [1, 1], [2, 1]),
    "value": ([0.5], [1, 2], [[0.5]]),
    "R": ([0.5], [1, 2]),
    "bits": ([bits(0.5)], [bits(1.0), bits(2.0)]),
    "unit_roundoff": ({"float32": 0.5}, {"float64": 0.5}),
}


TREE_EDITS: tuple[Callable[[Any, Any, Random, list[Place]], None], ...] = (
    *(delete, replace, replace, transplant, duplicate, add, rename, swap, wrap, unwrap),
    *(retype, nudge, nudge, restate, lie, attribute, contradict, contradict),
)


def edit_tree(tree: Any, random: Random) -> str:
    """Do one to three edits anywhere in a tree, and say which."""
    done = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        everywhere = places(tree)
        if not everywhere:
            break
        edit = random.choice(TREE_EDITS)
        edit(*_some_place(everywhere, random), random, everywhere)
        done.append(edit.__name__)
    return " ".join(done)


def dumped(tree: Any, random: Random) -> bytes:
    """Write a tree as JSON, literals as they are, in one of several layouts."""
    literals: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Literal):
            literals.append(value)
            return f"<{len(literals) - 1}>"
        if isinstance(value, dict):
            return {key: marked(inner) for key, inner in value.items()}
        return [marked(inner) for inner in value] if isinstance(value, list) else value

    text = json.dumps(marked(tree), ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, 1)))
    text = re.sub('"<([0-9]+)>"', lambda match: literals[int(match[1])], text)
    return text.encode("utf-8", "surrogatepass")


# ── The text ────────────────────────────────────────────────────────────────────────────────────────────────────────

_INSERTED = (
    *(b"\0", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\xa0"),
    *(b"//", b"/**/", b",", b",,", b"}", b"]", b'"', b"'", b"\\", b" ", b"\t\r\n", b"\x0b", b"\xd9\xa1"),
    *(b"\\u0000", b"\\ud800", b"\\u0041", b"1", b"-", b"e5", b".5", b"NaN", b"null", b'"schema":1,', b'"value":[1],'),
    *(b"[" * 50, b"{" * 20, b'{"a":' * 40),
)


def flip(text: bytes, random: Random) -> bytes:
    """Change one to four bytes."""
    changed = bytearray(text)
    for _ in range(random.randint(1, 4) if changed else 0):
        byte = random.choice((random.randrange(256), *b'0123456789abcdef"[]{},:.-'))
        changed[random.randrange(len(changed))] = byte
    return bytes(changed)


def truncate(text: bytes, random: Random) -> bytes:
    """Cut it off."""
    return text[: random.randint(0, len(text))]


def repeat(text: bytes, random: Random) -> bytes:
    """Say a stretch of it twice, or all of it."""
    start, end = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
    return random.choice((text[:end] + text[start:], text + text, text[:end] + text[start:end] * 3 + text[end:]))


def cut(text: bytes, random: Random) -> bytes:
    """Leave a stretch out."""
    start = random.randint(0, len(text))
    return text[:start] + text[start + random.randint(1, 40) :]


def insert(text: bytes, random: Random) -> bytes:
    """Insert something at one to three places."""
    for _ in range(random.randint(1, 3)):
        position = random.randint(0, len(text))
        text = text[:position] + random.choice(_INSERTED) + text[position:]
    return text


def encode(text: bytes, random: Random) -> bytes:
    """Write it in another encoding, or in UTF-8 with a mark."""
    plain = text.decode("utf-8", "replace")
    encoding = random.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037", "utf-8"))
    return plain.encode(encoding, "replace")


def escape(text: bytes, random: Random) -> bytes:
    """Write some letters as escapes: the same JSON in other characters."""
    plain = text.decode("utf-8", "replace")
    share = random.choice((0.02, 0.5))

    def escaped(letter: re.Match[str]) -> str:
        return f"\\u{ord(letter[0]):04x}" if random.random() < share else letter[0]

    return re.sub('[a-z](?=[a-z]*")', escaped, plain).encode()


def respell(text: bytes, random: Random) -> bytes:
    """Spell one number otherwise."""
    numbers = list(re.finditer(rb"(?<=[\[ ,:])-?[0-9][0-9.e+-]*(?=[\],}])", text))
    if not numbers:
        return text
    found = random.choice(numbers)
    spelling = found[0].decode()
    mantissa = spelling if "." in spelling or "e" in spelling else f"{spelling}.0"
    other = random.choice((f"{mantissa}000" if "e" not in mantissa else mantissa, f"{spelling}e0", *HOSTILE_NUMBERS))
    return text[: found.start()] + other.encode() + text[found.end() :]


def repeat_key(text: bytes, random: Random) -> bytes:
    """Give a mapping a key a second time, plainly or behind an escape."""
    keys = list(re.finditer(rb'"([a-zA-Z_]+)": ?', text))
    if not keys:
        return text
    found = random.choice(keys)
    first = f"\\u{found[1][0]:04x}".encode()
    again = random.choice((found[0], b'"' + first + found[1][1:] + b'":'))
    return text[: found.start()] + again + random.choice((b"1, ", b"null, ", b"[], ")) + text[found.start() :]


def deepen(text: bytes, random: Random) -> bytes:
    """Nest brackets around it, or in it, up to where stacks end."""
    depth = random.choice((1, 30, 33, 100, 970, 980, 990, 1000, 5000, 100_000))
    position = random.choice((0, text.find(b"[") + 1))
    middle = random.choice((text[position:], b"1")) if position == 0 else b"1"
    nest = b"[" * depth + middle + b"]" * random.choice((depth, depth, depth - 1, 0))
    return nest if position == 0 else text[:position] + nest + b"," + text[position:]


def swell(text: bytes, random: Random) -> bytes:
    """Make it long: blanks, one text, one list, one number, many keys."""
    amount = 1 << random.choice((10, 10, 12, 12, 14, 16) * 4 + (20,))
    position = text.find(b"[") + 1
    many = b",".join(b'"k%d":1' % i for i in range(amount >> 5))
    stuffing = random.choice(
        (
            *(b" " * amount, b'"' + b"x" * amount + b'",', b'"' + b'\\"' * (amount >> 2), b"0," * (amount >> 2)),
            *(b"1" * amount + b",", b"0." + b"1" * amount + b",", b"1e" + b"9" * amount + b",", b"[],"),
            *(b"{" + many + b"},", b"{" + many + b',"k%d":1},' % ((amount >> 5) - 1)),
        )
    )
    return text[:position] + stuffing + text[position:]


TEXT_EDITS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(flip, flip, flip, truncate, repeat, cut, insert, insert, encode, escape, respell, respell, repeat_key, deepen),
)


# ── The index ───────────────────────────────────────────────────────────────────────────────────────────────────────

PATHS = (
    *("../bugs.json", "../../../../../../etc/passwd", "/etc/passwd", "~/x.json", "..", ".", "", ".json"),
    *("..\\bugs.json", "C:\\x.json", "con.json", "%2e%2e/bugs.json", "file:///etc/passwd"),
    *("2026.1/ratio.json", "a" * 300 + ".json", "./ratio.json", "ratio.json/", "ratio.json/../gae.json"),
    *("ratio.json\0", "ratio.json\n", "ratio", "ratio.json.gz", "RATIO.json", "ｒatio.json", "\u202enosj.oitar"),
    *("index.json", "gae.json", "kl_categorical.json", 3, None, True, ["ratio.json"], {"name": "ratio.json"}),
)

HASHES = ("0" * 64, "٣" * 64, "", None, 0)

SIZES = (0, -1, 1, 2**26, 2**26 + 1, 2**53, True, None, Literal("9" * 40))

RELEASES = ("2026.2", "2026.1\n", "2026.10", 2026.1, "../2026.1", "٢026.1", None, "2026.1")

INDEX_EDITS = ("path", "hash", "size", "count", "twice", "order", "release", "missing", "tree", "tree")


def edit_index(index: dict[str, Any], random: Random) -> str:
    """Tamper with the index, and say how."""
    how = random.choice(INDEX_EDITS)
    entry = random.choice(index["files"] if how == "count" else [*index["files"], *index["knowledge"]])
    if how == "path":
        entry["name"] = random.choice(PATHS)
    elif how == "hash":
        digest = entry["sha256"]
        near = (digest.upper(), digest[:-1], f"{digest}\n", f"{digest}0", digest[::-1])
        entry["sha256"] = random.choice(near + HASHES)
    elif how in ("size", "count"):
        field = "bytes" if how == "size" else "cases"
        true = entry[field]
        entry[field] = random.choice((true - 1, true + 1, float(true), str(true), *SIZES))
    elif how == "twice":
        index["files"] += [dict(entry)] * random.choice((1, 2, 1200))
    elif how == "order":
        index["files"] = random.choice(([], {}, {"0": entry}, [[entry]], index["files"]))
    elif how == "release":
        index["release"] = random.choice(RELEASES)
    elif how == "missing":
        entry.update(name="gae.json" if entry["name"] != "gae.json" else "ratio.json")
    else:
        how = edit_tree(index, random)
    return how


# ── A whole release ─────────────────────────────────────────────────────────────────────────────────────────────────

KINDS = ("tree",) * 10 + ("text",) * 6 + ("knowledge",) * 3 + ("index",) * 3 + ("index text", "unsealed", "swollen")


def mutated(trees: Trees, random: Random) -> tuple[str, Files]:
    """Return what was done to a release, kind and edits, and the files that came of it."""
    kind = random.choice(KINDS) if random.random() < 0.98 else "untouched"
    op = op_path(trees)
    target, done = op, ""
    if kind == "knowledge" or (kind == "swollen" and random.random() < 0.3):
        target = random.choice([name for name in trees if name != op])
    if kind == "tree" or (kind == "knowledge" and random.random() < 0.7):
        done = edit_tree(trees[target], random)
    files = {name: json.dumps(tree).encode() for name, tree in trees.items() if name != target}
    files[target] = dumped(trees[target], random)
    if kind == "text" or (kind == "knowledge" and not done):
        files[target], done = _edit_text(files[target], random)
    if kind == "swollen":
        files[target], done = swell(files[target], random), "swell"
    cases = trees[op].get("cases") if isinstance(trees[op], dict) else None
    index = index_of(files, op, max(len(cases), 1) if isinstance(cases, list) else 1)
    if kind == "index":
        done = edit_index(index, random)
    files[INDEX] = dumped(index, random)
    if kind == "index text":
        edit = _edit_text if random.random() < 0.9 else _pad
        files[INDEX], done = edit(files[INDEX], random)
    if kind == "unsealed":
        target = random.choice(list(trees))
        files[target], done = _edit_text(files[target], random)
    return f"{kind}: {target if kind != 'index' else INDEX} {done}", files


def _edit_text(text: bytes, random: Random) -> tuple[bytes, str]:
    edit = random.choice(TEXT_EDITS)
    return edit(text, random), edit.__name__


def _pad(text: bytes, random: Random) -> tuple[bytes, str]:
    return text + b" " * ((1 << 20) + random.choice((-1, 0, 1)) - len(text)), "pad"

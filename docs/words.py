"""Counts how plainly the code is named and written: `make words`.

`--check` prints only doubled class and module names, and fails if there are any.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "providers")

# Module names that exist more than once, and why.
SHARED_MODULE_NAMES = {
    "__init__": "Python's own name for a package",
    "store": "the Store of each backend: store/redis, store/sqlite",
    "leases": "leases of each backend: store/redis, store/sqlite",
}
IRREGULAR_PARTICIPLES = set(
    "begun bound bought brought broken built caught chosen done drawn driven fallen felt forgotten found given gone "
    "heard held hidden kept known laid led left lent lost made meant met paid said seen sent shown sold spent stood "
    "stolen taken taught thought told torn understood went withdrawn won worn written".split()
)
# End in -ed, but are no participles.
NOT_PARTICIPLES = {"seed", "feed", "speed", "need", "embed", "proceed", "exceed", "shed", "shared_bed"}
PREPOSITIONS = {"of", "by", "for", "in", "at", "about", "with"}
# End in -ing, but name a thing.
NOUNS_IN_ING = {"string", "ring", "routing", "setting", "settings", "thing", "timing", "warning"}
SUPERLATIVES = re.compile(r"(?:^|_)(?:MOST|LEAST|LONGEST|LARGEST)(?:_|$)")

# Words and turns that rules 8 and 9 of the naming rules exclude.
RIDDLES = {
    "a person for a program": r"\b(?:whoever|whomever|nobody|somebody|anybody|he|him|his|she)\b",
    "we and ours": r"\b(?:us|ours)\b",
    "old words": r"\b(?:anew|lest|seldom|for ever|were it|were there|whence|thereof|needs must)\b",
    "is no X": r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|other\b|worse\b|better\b)[a-z]",
    "relative clause as subject": r"(?:^|[.;:!?] +)(?:What|Who) (?:is|was|are|were|has|had|can|could|may|must|does|did|"
    r"comes|came|goes|went|needs|it|they|the|a|an|no|one|this|that|each|every|you|we)\b(?![^.!\n]*\?)",
    "programs that hear, tell, know, die or wish": r"\b(?:hears?|heard|hearing|tells?|told|telling|knows|dies|died|dying|wish|wishes|"
    r"wished)\b",
}
RIDDLE = {kind: re.compile(pattern, re.IGNORECASE if kind[0] != "r" else 0) for kind, pattern in RIDDLES.items()}

# The field's usual words, and the module that a search for them must find.
USUAL_WORDS: dict[str, str] = {}


@dataclass
class Names:
    """What one module declares."""

    path: Path
    tree: ast.Module
    functions: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Text:
    """A docstring, comment, message or page, and where it stands."""

    path: Path
    line: int
    text: str


def read_names(path: Path) -> Names:
    names = Names(path, ast.parse(path.read_text()))
    for node in ast.walk(names.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            names.functions.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names.classes.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper():
            names.constants.append(node.id)
    return names


def is_participle(name: str) -> bool:
    word = name.strip("_")
    if "_" in word or word in NOT_PARTICIPLES:
        return False
    return word in IRREGULAR_PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def ends_in_preposition(name: str) -> bool:
    return "_" in name.strip("_") and name.rpartition("_")[2] in PREPOSITIONS


def is_one_private_word(name: str) -> bool:
    return name.startswith("_") and "_" not in name.strip("_")


def is_gerund(module: str) -> bool:
    word = module.rpartition("_")[2]
    return word.endswith("ing") and word not in NOUNS_IN_ING


def find_doubled(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def find_doubled_modules(modules: Iterable[Path]) -> list[str]:
    return [name for name in find_doubled(path.stem for path in modules) if name not in SHARED_MODULE_NAMES]


def read_code_texts(path: Path) -> Iterator[Text]:
    """Comments, docstrings and messages: strings with a blank in them."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], token.string.lstrip("# "))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, line in enumerate(node.value.splitlines()):
                yield Text(path, node.lineno + offset, line.strip())


def read_page_texts(path: Path) -> Iterator[Text]:
    """A page without its code blocks; of YAML, Lua and shell only comments."""
    is_page, in_block = path.suffix == ".md", False
    marker = "--" if path.suffix == ".lua" else "#"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if is_page:
            in_block ^= line.lstrip().startswith("```")
            if not in_block:
                yield Text(path, number, line.strip())
        elif marker in line:
            yield Text(path, number, line.partition(marker)[2].strip())


def find_texts() -> Iterator[Text]:
    for package in (*PACKAGES, "sandbox", "tests", "bench", "docs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path != Path(__file__):
                yield from read_code_texts(path)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "gateway").rglob("*.lua")]
    pages += [*(ROOT / "config").rglob("*.yaml"), *(ROOT / "deploy").rglob("*.sh"), ROOT / "Makefile"]
    for path in sorted(pages):
        yield from read_page_texts(path)


def find_riddles(texts: Iterable[Text]) -> Iterator[tuple[Text, str, str]]:
    for text in texts:
        for kind, pattern in RIDDLE.items():
            if match := pattern.search(text.text):
                yield text, kind, match[0]


def search(phrase: str, modules: Iterable[Names]) -> list[str]:
    """Module paths, best first: a word counts most in the path, then in a class, a function, and least in prose."""
    words = [word.rstrip("s") for word in phrase.lower().split()]
    scores = {str(module.path.relative_to(ROOT)): _score(words, module) for module in modules}
    return sorted((path for path, score in scores.items() if score), key=lambda path: (-scores[path], len(path)))


def _score(words: list[str], module: Names) -> int:
    docstring = (ast.get_docstring(module.tree) or "").lower()
    path = str(module.path.relative_to(ROOT)).lower()
    declared = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in module.classes).lower()
    functions = " ".join(module.functions + module.constants).lower()
    weights = ((path, 8), (declared, 4), (functions, 2), (docstring, 2))
    scores = [sum(weight for text, weight in weights if word in text) for word in words]
    return sum(scores) if all(scores) else 0


def print_share(what: str, names: list[str], of: int, goal: str) -> None:
    print(
        f"{what:<44}{len(names):>5} of {of:<5} {len(names) / max(of, 1):>6.1%}   goal {goal}   {' '.join(names[:12])}"
    )


def report() -> None:
    modules = [read_names(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    functions = [name for module in modules for name in module.functions]
    private = [name for name in functions if name.startswith("_")]
    stems = [module.path.stem for module in modules if module.path.stem != "__init__"]
    constants = sorted({name for module in modules for name in module.constants if SUPERLATIVES.search(name)})
    print_share(
        "functions named by a bare participle", [n for n in functions if is_participle(n)], len(functions), "<= 1 %"
    )
    print_share(
        "functions that end in a preposition",
        [n for n in functions if ends_in_preposition(n)],
        len(functions),
        "<= 2 %",
    )
    print_share("private functions of one word", [n for n in private if is_one_private_word(n)], len(private), "<= 8 %")
    print_share("modules named by a gerund", [n for n in stems if is_gerund(n)], len(stems), "<= 3 %")
    print_share("constants with a superlative", constants, len(constants), "0")
    print_share("class names used twice", find_doubled(n for m in modules for n in m.classes), len(functions), "0")
    print_share("module names used twice", find_doubled_modules(m.path for m in modules), len(stems), "0")
    print_usual_words(modules)
    print_riddles()


def print_usual_words(modules: list[Names]) -> None:
    missed = {
        word: search(word, modules)[:3]
        for word, wanted in USUAL_WORDS.items()
        if wanted not in search(word, modules)[:3]
    }
    print(f"usual words of the field found: {len(USUAL_WORDS) - len(missed)} of {len(USUAL_WORDS)}   goal >= 52 of 56")
    for word, found in missed.items():
        print(f"  {word}: wanted {USUAL_WORDS[word]}, found {', '.join(found) or 'nothing'}")


def print_riddles() -> None:
    riddles = list(find_riddles(find_texts()))
    print(f"words of rules 8 and 9: {len(riddles)}   goal 0")
    for text, kind, word in riddles:
        print(f"  {text.path.relative_to(ROOT)}:{text.line}: {word!r} ({kind}): {text.text[:110]}")


def check() -> int:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    classes = find_doubled(name for path in paths for name in read_names(path).classes)
    modules = find_doubled_modules(paths)
    for name in classes:
        print(f"class name used twice: {name}")
    for name in modules:
        print(f"module name used twice: {name}")
    return 1 if classes or modules else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="only doubled class and module names; fail if there are any"
    )
    if parser.parse_args().check:
        sys.exit(check())
    report()

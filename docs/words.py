"""Counts how plainly the code is named and written: `make words`.

`--check` reports only class and module names that exist twice and words of rules 8 and 9, and fails if there are any.
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
ALL_FOLDERS = (*PACKAGES, "sandbox", "tests", "bench", "docs")

# Module names that exist more than once, and why.
_BOTH_SIDES = "one subject of a provider: the adapter's side, and that of the simulated vendor"
_EACH_VENDOR = "one for each simulated vendor"
_TWO_LEVELS = "one subject, tested in its module and through the whole gateway"
SHARED_MODULE_NAMES = {
    "__init__": "Python's own name for a package",
    "conftest": "pytest's own name for fixtures",
    "adapter": "the contract of adapters, and the adapter of a provider that needs several modules",
    "audit": "the comparison of a partition with its jobs, and the command that runs it",
    "schema": "the schema of the configuration, and the command that prints it",
    "store": "the store of each backend: Redis, SQLite, and the memory of tests",
    "callbacks": "the route that receives callbacks, and the simulated vendors that send them",
    **dict.fromkeys(("assets", "errors", "orders", "tasks"), _BOTH_SIDES),
    **dict.fromkeys(("account", "http_helpers", "routes"), _EACH_VENDOR),
    "test_full_disk": "a full disk: of the image storage, and of the whole gateway",
    "test_undecodable_jobs": "one for each store",
    **dict.fromkeys(
        ("test_account_limits", "test_circuit_breaker", "test_order_faults", "test_retry_budget"),
        _TWO_LEVELS,
    ),
}
IRREGULAR_PARTICIPLES = set(
    re.findall(
        r"\w+",
        """begun bound bought brought broken built caught chosen done drawn driven fallen felt forgotten found given
        gone heard held hidden kept known laid led left lent lost made meant met paid said seen sent shown sold spent
        stood stolen taken taught thought told torn understood went withdrawn won worn written""",
    )
)
NOT_PARTICIPLES = {"seed", "feed", "speed", "need", "embed", "proceed", "exceed", "shed"}
PREPOSITIONS = {"of", "by", "for", "in", "at", "about", "with"}
NOT_GERUNDS = {"string", "ring", "routing", "ranking", "setting", "settings", "thing", "timing", "warning"}
SUPERLATIVES = re.compile(r"(?:^|_)(?:MOST|LEAST|LONGEST|LARGEST)(?:_|$)")

# Words and phrases that rules 8 and 9 of the naming rules exclude.
EXCLUDED_WORDS = {
    "a person for a program": r"\b(?:whoever|whomever|nobody|somebody|anybody|he|him|his|she)\b",
    "we and ours": r"\b(?:us|ours|our(?! (?:content|usage) polic))\b",
    "old words": r"\b(?:anew|lest|seldom|for ever|were it|were there|whence|thereof|needs must)\b",
    "is no X": r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|other\b|worse\b|better\b)[a-z]",
    "relative clause as subject": (
        r"(?:^|[.;:!?] +)(?:What|Who) (?:is|was|are|were|has|had|can|could|may|must|does|did|comes|came|goes|went|needs"
        r"|it|they|the|a|an|no|one|this|that|each|every|you|we)\b(?![^.!\n]*\?)"
        r"|\b[Ww]hatever (?:else )?(?!its\b|this\b)\w*s\b"
    ),
    "programs that hear, tell, know, die or wish": (
        r"\b(?:hears?|heard|hearing|tells?|told|telling|knows?|dies|died|dying|wish|wishes|wished)\b"
    ),
}
EXCLUDED_PATTERNS = {
    kind: re.compile(pattern, re.IGNORECASE if kind != "relative clause as subject" else 0)
    for kind, pattern in EXCLUDED_WORDS.items()
}

# Usual words of this field, and the module that a search for each must find among its first three results.
USUAL_WORDS = {
    "circuit breaker": "gateway/health/circuit_breaker.py",
    "half open": "gateway/health/circuit_breaker.py",
    "rate limit": "gateway/access/rate_limiter.py",
    "concurrency limit": "gateway/health/concurrency_limiter.py",
    "retry budget": "gateway/health/retry_budget.py",
    "backoff": "gateway/engine/poll_schedule.py",
    "retry after": "providers/parsing.py",
    "lease": "gateway/store/redis/lease_manager.py",
    "fence": "gateway/store/base.py",
    "idempotency": "gateway/api/idempotency_record_builder.py",
    "deduplication": "gateway/store/repeated_request_matching.py",
    "redact": "gateway/config/redaction.py",
    "signed url": "gateway/assets/signed_urls.py",
    "request parsing": "gateway/api/request_parsing.py",
    "authentication": "gateway/api/authentication.py",
    "json schema": "gateway/config/json_schema.py",
    "config reload": "gateway/config/reloader.py",
    "config validation": "gateway/config/validation.py",
    "proxy": "gateway/upstream/proxy_transport.py",
    "dns": "gateway/upstream/dns_lookup.py",
    "tls": "gateway/upstream/asyncio_tls_connector.py",
    "ssrf": "gateway/upstream/address_guard.py",
    "download": "gateway/upstream/download.py",
    "multipart": "gateway/upstream/request_body_encoder.py",
    "memory budget": "gateway/memory_budget.py",
    "metrics": "gateway/telemetry/metrics.py",
    "logging": "gateway/telemetry/logs.py",
    "readiness": "gateway/gateway_lifecycle.py",
    "graceful shutdown": "gateway/gateway_lifecycle.py",
    "failover": "gateway/engine/order_submitter.py",
    "ranking": "gateway/routing/ranking.py",
    "quote": "gateway/routing/quote.py",
    "budget": "gateway/jobs/commit.py",
    "ledger": "gateway/store/ledger_totals.py",
    "state machine": "gateway/jobs/transition_tables.py",
    "job worker": "gateway/engine/job_worker.py",
    "mailbox": "gateway/engine/mailbox.py",
    "callback signature": "providers/callback_signatures.py",
    "callback handler": "gateway/engine/callback_handler.py",
    "webhook": "gateway/webhooks/webhook_sender.py",
    "crash recovery": "gateway/jobs/next_actions.py",
    "image conversion": "gateway/assets/image_conversion.py",
    "image header": "gateway/assets/image_header.py",
    "storage backend": "gateway/assets/backend.py",
    "s3 bucket": "gateway/assets/bucket_backend.py",
    "schema migration": "gateway/store/sqlite/database.py",
    "expiry": "gateway/jobs/next_actions.py",
    "audit": "gateway/store/audit.py",
    "lua script": "gateway/store/redis/scripts.py",
    "pipeline": "gateway/store/redis/command_pipeline.py",
    "partition": "gateway/store/partitions.py",
    "fault": "providers/faults.py",
    "outcome unknown": "gateway/store/base.py",
    "task supervisor": "gateway/task_supervisor.py",
    "command line": "gateway/cli.py",
    "environment": "gateway/settings.py",
}


@dataclass
class Module:
    """The names that a module declares."""

    path: Path
    tree: ast.Module
    functions: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Text:
    """One line of a docstring, comment, message or page, and its location."""

    path: Path
    line: int
    text: str


def read_modules(folders: Iterable[str] = PACKAGES) -> list[Module]:
    return [read_module(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def read_module(path: Path) -> Module:
    module = Module(path, ast.parse(path.read_text()))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            module.functions.append(node.name)
        elif isinstance(node, ast.ClassDef):
            module.classes.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper():
            module.constants.append(node.id)
    return module


def is_participle(name: str) -> bool:
    word = name.strip("_")
    if "_" in word or word in NOT_PARTICIPLES:
        return False
    return word in IRREGULAR_PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def ends_in_preposition(name: str) -> bool:
    return "_" in name.strip("_") and name.rpartition("_")[2] in PREPOSITIONS


def is_gerund(name: str) -> bool:
    word = name.rpartition("_")[2]
    return word.endswith("ing") and word not in NOT_GERUNDS


def find_duplicates(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def find_duplicate_classes(modules: list[Module]) -> list[str]:
    return find_duplicates(name for module in modules for name in module.classes)


def find_duplicate_modules(modules: list[Module]) -> list[str]:
    return [name for name in find_duplicates(module.path.stem for module in modules) if name not in SHARED_MODULE_NAMES]


def read_code_texts(path: Path) -> Iterator[Text]:
    """Yields comments, docstrings and messages: strings that contain a space. Names of tests are read as sentences."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], token.string.lstrip("# "))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield Text(path, node.lineno, node.name.replace("_", " "))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, line in enumerate(node.value.splitlines()):
                yield Text(path, node.lineno + offset, line.strip())


def read_page_texts(path: Path) -> Iterator[Text]:
    """Yields the lines of a page outside its code blocks; of other files only comments."""
    is_page, in_block = path.suffix == ".md", False
    marker = "--" if path.suffix == ".lua" else "#"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if is_page:
            in_block ^= line.lstrip().startswith("```")
            if not in_block:
                yield Text(path, number, line.strip())
        elif marker in line:
            yield Text(path, number, line.partition(marker)[2].strip())


def read_all_texts() -> Iterator[Text]:
    for folder in ALL_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__):
                yield from read_code_texts(path)
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "gateway").rglob("*.lua")]
    pages += [*(ROOT / "config").rglob("*.yaml"), *(ROOT / "deploy").rglob("*.sh"), ROOT / "Makefile"]
    pages += (ROOT / "deploy").rglob("*.in")
    for path in sorted(pages):
        yield from read_page_texts(path)


def search(phrase: str, modules: Iterable[Module]) -> list[str]:
    """Returns module paths, best first: a word counts most in the path, then in a class, then elsewhere."""
    words = [word.rstrip("s") for word in phrase.lower().split()]
    scores = {str(module.path.relative_to(ROOT)): _score_module(words, module) for module in modules}
    return sorted((path for path, score in scores.items() if score), key=lambda path: (-scores[path], len(path)))


def _score_module(words: list[str], module: Module) -> int:
    classes = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in module.classes)
    weights = {
        str(module.path.relative_to(ROOT)): 8,
        classes: 4,
        " ".join(module.functions + module.constants): 2,
        ast.get_docstring(module.tree) or "": 2,
    }
    scores = [sum(weight for text, weight in weights.items() if word in text.lower()) for word in words]
    return sum(scores) if all(scores) else 0


def write_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def report_names(modules: list[Module], all_modules: list[Module]) -> None:
    functions = [name for module in modules for name in module.functions]
    private = [name for name in functions if name.startswith("_")]
    classes = [name for module in all_modules for name in module.classes]
    stems = [module.path.stem for module in modules if module.path.stem != "__init__"]
    constants = [name for module in modules for name in module.constants]
    for title, found, names, goal in (
        ("functions named by a bare participle", filter(is_participle, functions), functions, "<= 1 %"),
        ("functions that end in a preposition", filter(ends_in_preposition, functions), functions, "<= 2 %"),
        ("private functions of one word", (n for n in private if "_" not in n.strip("_")), private, "<= 8 %"),
        ("modules named by a gerund", filter(is_gerund, stems), stems, "<= 3 %"),
        ("constants with a superlative", filter(SUPERLATIVES.search, constants), constants, "0"),
        ("class names that exist twice", find_duplicate_classes(all_modules), classes, "0"),
        ("module names that exist twice", find_duplicate_modules(all_modules), all_modules, "0"),
    ):
        hits = list(found)
        share = len(hits) / max(len(names), 1)
        write_line(f"{title:<40}{len(hits):>4} of {len(names):<5}{share:>6.1%}  goal {goal:<7}{' '.join(hits[:12])}")


def report_usual_words(modules: list[Module]) -> None:
    results = {phrase: search(phrase, modules)[:3] for phrase in USUAL_WORDS}
    missed = [phrase for phrase, paths in results.items() if USUAL_WORDS[phrase] not in paths]
    write_line(f"usual words found: {len(USUAL_WORDS) - len(missed)} of {len(USUAL_WORDS)}  goal >= 52 of 56")
    for phrase in missed:
        found = ", ".join(results[phrase]) or "nothing"
        write_line(f"  {phrase}: expected {USUAL_WORDS[phrase]}, found {found}")


def list_excluded_words() -> list[str]:
    return [
        f"{text.path.relative_to(ROOT)}:{text.line}: {match[0]!r} ({kind}): {text.text[:110]}"
        for text in read_all_texts()
        for kind, pattern in EXCLUDED_PATTERNS.items()
        if (match := pattern.search(text.text))
    ]


def report_excluded_words() -> None:
    hits = list_excluded_words()
    write_line(f"words of rules 8 and 9: {len(hits)}  goal 0")
    for hit in hits:
        write_line(f"  {hit}")


def check(all_modules: list[Module]) -> int:
    problems = [f"class name exists twice: {name}" for name in find_duplicate_classes(all_modules)]
    problems += [f"module name exists twice: {name}" for name in find_duplicate_modules(all_modules)]
    problems += list_excluded_words()
    for problem in problems:
        write_line(problem)
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="report only what breaks a rule without exceptions; fail if anything does"
    )
    arguments = parser.parse_args()
    all_modules = read_modules(ALL_FOLDERS)
    if arguments.check:
        return check(all_modules)
    modules = read_modules()
    report_names(modules, all_modules)
    report_usual_words(modules)
    report_excluded_words()
    return 0


if __name__ == "__main__":
    sys.exit(main())

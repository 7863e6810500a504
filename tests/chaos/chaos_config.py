"""A configuration with simulated sellers, one policy per seller, and a team that may use all of them."""

from pathlib import Path

SELLERS = ("runflow-runs", "runflow-run", "runapi", "openai")
RUNAPI_KEY_REF = "env:RUNAPI_API_KEY"
VENDOR_BY_SELLER = {"runflow-runs": "runflow", "runflow-run": "runflow", "runapi": "runapi", "openai": "openai"}
# The simulated OpenAI's charge for a 1024x1024 image of low quality with a prompt of PROMPT_LENGTH.
PROMPT_LENGTH, OPENAI_PRICE = 40, "0.0059"

GATEWAY_YAML = """
reload: {{watch: true, every_seconds: 0.2}}
jobs: {{lease_seconds: {lease}}}
"""
MODELS_YAML = """
models:
  gpt-image-2:
    defaults: {size: 1024x1024, quality: low, output_format: png}
"""
ACCOUNTS_YAML = """
accounts:
  runflow: {{base_url: "{url}/runflow", key: "env:RUNFLOW_API_KEY", private: true}}
  runapi:
    base_url: "{url}/runapi"
    key: "{runapi_key}"
    replay: trusted
    callback_secrets: ["env:RUNAPI_CALLBACK_SECRET"]
    private: true
  openai: {{base_url: "{url}/openai/v1", key: "env:OPENAI_API_KEY", private: true}}
"""
OFFER_YAML = """
account: {account}
adapter: {adapter}
offers:
  gpt-image-2:
    model: {model}
    images_per_order: {images}
    quality: {quality}
    formats: {formats}
    generate: {sizing}
    {edit}
    seconds: {{any: {{p50: {expected}, p90: {slow}}}}}
    prices:
      - {{price: "{price}", operations: {operations}, resolutions: [1k], source: the sandbox, date: 2026-07-23}}
"""
RUNFLOW_OFFER = {
    "account": "runflow",
    "model": "openai/gpt-image-2",
    "images": 4,
    "quality": "{selectable: [low]}",
    "formats": "[png, jpeg, webp]",
    "sizing": "{pixels: exact}",
    "edit": "inputs: 1\n    edit: {pixels: exact}",
    "operations": "[generate, edit]",
    "price": "0.009",
}
OFFER_BY_SELLER = {
    "runflow-runs": {**RUNFLOW_OFFER, "adapter": "runflow_runs"},
    "runflow-run": {**RUNFLOW_OFFER, "adapter": "runflow_run"},
    "runapi": {
        "account": "runapi",
        "adapter": "runapi",
        "model": "gpt-image-2",
        "images": 1,
        "quality": "{assumes: low}",
        "formats": "[]",
        "sizing": "{ratios: ['1:1']}",
        "edit": "inputs: 1\n    edit: {ratios: ['1:1']}",
        "operations": "[generate, edit]",
        "price": "0.06",
    },
    "openai": {
        **RUNFLOW_OFFER,
        "account": "openai",
        "adapter": "openai",
        "model": "gpt-image-2",
        "images": 10,
        # No edits: they cost more by their input tokens, and the audit expects one price.
        "edit": "",
        "operations": "[generate]",
        "price": OPENAI_PRICE,
    },
}
POLICIES_YAML = """
policies:
  any: {rank: listed, sellers: [runflow-runs, runapi, openai, runflow-run]}
  runflow-runs: {rank: listed, sellers: [runflow-runs]}
  runflow-run: {rank: listed, sellers: [runflow-run]}
  runapi: {rank: listed, sellers: [runapi]}
  openai: {rank: listed, sellers: [openai]}
default: any
"""
TEAMS_YAML = """
teams:
  chaos: {keys: ["env:IGW_KEY_CHAOS"], policies: [any, runflow-runs, runflow-run, runapi, openai]}
  other-team: {keys: ["env:IGW_KEY_OTHER_TEAM"]}
"""


def write_config(
    folder: Path,
    sandbox_url: str,
    lease_seconds: float = 15.0,
    expected_seconds: float = 0.3,
    runapi_key_ref: str = RUNAPI_KEY_REF,
) -> Path:
    """Writes all files. `expected_seconds` is the offers' median latency: orders are not polled much earlier."""
    (folder / "offers").mkdir(parents=True, exist_ok=True)
    files = {
        "gateway.yaml": GATEWAY_YAML.format(lease=lease_seconds),
        "models.yaml": MODELS_YAML,
        "accounts.yaml": ACCOUNTS_YAML.format(url=sandbox_url, runapi_key=runapi_key_ref),
        "policies.yaml": POLICIES_YAML,
        "teams.yaml": TEAMS_YAML,
        **{
            f"offers/{name}.yaml": OFFER_YAML.format(
                expected=expected_seconds, slow=max(60.0, expected_seconds), **offer
            )
            for name, offer in OFFER_BY_SELLER.items()
        },
    }
    for name, text in files.items():
        _write_file(folder / name, text)
    return folder


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    _write_file(path, text.replace(old, new))


def _write_file(path: Path, text: str) -> None:
    """Replaces the whole file at once, because a running gateway may read it at any moment."""
    new_file = path.parents[1] / f"{path.name}.new"
    new_file.write_text(text)
    new_file.replace(path)
